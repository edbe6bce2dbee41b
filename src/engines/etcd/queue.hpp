#pragma once

#include "engines/backend.hpp"
#include "engines/etcd/json.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

// Who stands where: pure arithmetic on the keys below NAME/, in the order in which they were created. The layout is
// that of `etcdctl lock` and of Go's concurrency.Mutex: NAME/<lease in hexadecimal>.
namespace lockrun::engines::etcd {

// What we leave in the value of our key. etcdctl leaves nothing, and means exclusive.
struct Note {
  Mode mode = Mode::exclusive;
  int slots = 0;
  std::optional<int> slot{}; // its holder has it
  bool is_counted = false;   // it gave --max-waiters
  std::optional<Owner> owner{};
  friend bool operator==(const Note&, const Note&) = default;
};
std::string write_note(const Note& note);
Note read_note(std::string_view value); // an exclusive one without a name for what we do not understand

struct Member {
  std::string key;
  std::int64_t created = 0; // revision
  Note note{};
  std::int64_t modified = 0; // revision
  std::int64_t lease = 0;
};

// Those of a range response below `prefix` that are members, in their order. Others may keep keys there too: only
// NAME/<hex> counts, so that the lock "a" does not see that of "a/b".
std::vector<Member> members_of(const Json& range_response, const std::string& prefix);

// Whether the member at `index` has the lock.
bool holds(const std::vector<Member>& queue, std::size_t index);

struct Rank {
  bool is_held = false;
  std::optional<int> slot_to_claim{};    // held as soon as this is in our note
  bool is_promised = false;              // those in front choose their slots at once, and leave one
  std::int64_t position = 0;             // among those who wait, from 1
  std::optional<std::size_t> obstacle{}; // whose end is worth looking for; none: any change may matter
  std::optional<std::size_t> holder{};   // somebody in front who has the lock
  std::int64_t counted_waiters = 0;      // in front of us, of those who gave --max-waiters
};

// Where the member at `index` stands. queue.size() is one who would join now with `note`.
Rank rank_of(const std::vector<Member>& queue, std::size_t index, const Note& note);

Contender contender_of(const std::vector<Member>& queue, std::size_t index);

} // namespace lockrun::engines::etcd
