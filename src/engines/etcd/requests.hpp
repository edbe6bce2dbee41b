#pragma once

#include "engines/etcd/queue.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

// What etcd's gateway is asked for, and where its answers have what we look for: pure functions.
namespace lockrun::engines::etcd {

inline constexpr const char* k_range = "/v3/kv/range";
inline constexpr const char* k_txn = "/v3/kv/txn";
inline constexpr const char* k_grant = "/v3/lease/grant";
inline constexpr const char* k_keepalive = "/v3/lease/keepalive";
inline constexpr const char* k_revoke = "/v3/lease/revoke";
inline constexpr const char* k_watch = "/v3/watch";
inline constexpr const char* k_status = "/v3/maintenance/status"; // needs no user and no quorum
inline constexpr const char* k_authenticate = "/v3/auth/authenticate";

Json grant_request(std::int64_t lease, milliseconds ttl);
Json lease_request(std::int64_t lease); // to renew or to revoke it
milliseconds ttl_in(const Json& answer);

// Ranges: one key, or all keys below a prefix, which ends with a slash; with `newest` only those that were made up to
// that revision.
Json range_of_key(const std::string& key);
Json range_below(const std::string& prefix, std::optional<std::int64_t> newest = std::nullopt);

// Transactions end with a range, and that is what is found in their answers; null if there is none.
const Json& found_last(const Json& answer);
Json transaction(const Json& condition, const Json& deeds, const Json& otherwise);
Json is_unmodified(const std::string& key, std::int64_t modified); // a condition
Json put_key(const std::string& key, const std::string& value);    // a deed
Json look_at(const Json& range);                                   // a deed

// A key of a queue that is to be made.
struct NewKey {
  const std::string& prefix;
  const std::string& key;
  const Note& note;
  std::int64_t lease;
  const std::vector<std::string>& former;      // keys of ours that go at the same time
  std::optional<std::int64_t> unchanged_since; // only if nobody has joined after that revision
};
// Makes it unless it is there already, so that it can be repeated. Finds the queue.
Json make_request(const NewKey& fresh);

// Writes the note once more, and puts the key on this lease, if it is as it was at the revision `modified`. Finds the
// key if it has changed.
Json rewrite_request(const std::string& key, const Note& note, std::int64_t lease, std::int64_t modified);

// Which of these keys are there, without their values; answered by any member, which may be behind.
Json presence_request(const std::vector<std::string>& keys);
bool is_present(const Json& answer, std::size_t index);

// The events of a key, or of all keys below a prefix; `takes_writes`: not only deletions.
Json watch_key(const std::string& key, std::int64_t since, bool takes_writes);
Json watch_below(const std::string& prefix, std::int64_t since);

} // namespace lockrun::engines::etcd
