#include "engines/etcd/queue.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

namespace lockrun::engines::etcd {
namespace {

constexpr int k_note_version = 1;

bool is_hex(std::string_view text)
{
  return !text.empty() && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_slotted(const Member& member)
{
  return member.note.slots > 0;
}

bool is_exclusive(const Member& member)
{
  return member.note.mode == Mode::exclusive && !is_slotted(member);
}

// Who is before one in the queue.
struct Ahead {
  std::optional<std::size_t> last_exclusive{};
  int slotted = 0;
  std::optional<std::size_t> last_unclaimed{}; // with slots, and without one of its own
  bool is_each_promised = true;                // those have one as soon as they choose
  std::set<int> taken{};                       // slots

  int lowest_free_slot() const
  {
    int free = 0;
    while (taken.contains(free)) { ++free; }
    return free;
  }
};

Ahead ahead_of(const std::vector<Member>& queue, std::size_t index)
{
  Ahead ahead;
  for (std::size_t i = 0; i < index; ++i) {
    const Note& note = queue[i].note;
    if (is_exclusive(queue[i])) { ahead.last_exclusive = i; }
    if (!is_slotted(queue[i])) { continue; }
    if (note.slot) {
      ahead.taken.insert(*note.slot);
    } else {
      ahead.last_unclaimed = i;
      ahead.is_each_promised = ahead.is_each_promised && !ahead.last_exclusive && ahead.slotted < note.slots;
    }
    ++ahead.slotted;
  }
  return ahead;
}

std::string words(const std::optional<Owner>& owner, const std::string& key)
{
  if (!owner) { return fmt::format("somebody who left no name (key {})", key); }
  return words_of(*owner);
}

} // namespace

std::string write_note(const Note& note)
{
  Json value = {{"lockrun", k_note_version}, {"mode", note.mode == Mode::shared ? "shared" : "exclusive"}};
  if (note.slots > 0) { value["slots"] = note.slots; }
  if (note.slot) { value["slot"] = *note.slot; }
  if (note.is_counted) { value["counted"] = true; }
  if (note.owner) {
    value["host"] = note.owner->host;
    value["pid"] = note.owner->pid;
    value["user"] = note.owner->user;
    value["command"] = note.owner->command;
    value["since"] = note.owner->since_ms;
    if (!note.owner->instance.empty()) { value["instance"] = note.owner->instance; }
  }
  return write_json(value);
}

Note read_note(std::string_view value)
{
  Note note;
  const auto json = parse_json(value);
  if (!json || number(*json, "lockrun") < k_note_version) { return note; }
  note.mode = text(*json, "mode") == "shared" ? Mode::shared : Mode::exclusive;
  note.slots = static_cast<int>(std::clamp<std::int64_t>(number(*json, "slots"), 0, 256));
  if (field(*json, "slot").is_number_integer()) { note.slot = static_cast<int>(number(*json, "slot")); }
  note.is_counted = field(*json, "counted") == true;
  if (!text(*json, "host").empty()) {
    note.owner = Owner{text(*json, "host"), number(*json, "pid"), text(*json, "user"), text(*json, "command"),
      number(*json, "since"), text(*json, "instance")};
  }
  return note;
}

std::vector<Member> members_of(const Json& range_response, const std::string& prefix)
{
  std::vector<Member> queue;
  const Json& kvs = field(range_response, "kvs");
  for (const Json& kv : kvs) {
    std::string key = bytes(kv, "key");
    if (!key.starts_with(prefix) || !is_hex(std::string_view(key).substr(prefix.size()))) { continue; }
    queue.push_back({std::move(key), count(kv, "create_revision"), read_note(bytes(kv, "value")),
      count(kv, "mod_revision"), number(kv, "lease")});
  }
  std::sort(queue.begin(), queue.end(), [](const Member& a, const Member& b) { return a.created < b.created; });
  return queue;
}

Rank rank_of(const std::vector<Member>& queue, std::size_t index, const Note& note)
{
  Rank rank;
  for (std::size_t i = 0; i < index; ++i) {
    if (holds(queue, i)) {
      rank.holder = i;
    } else {
      ++rank.position;
      if (queue[i].note.is_counted) { ++rank.counted_waiters; }
    }
  }
  ++rank.position;
  const Member self{std::string(), 0, note};
  const Ahead ahead = ahead_of(queue, index);
  if (is_exclusive(self)) {
    rank.is_held = index == 0;
    if (index > 0) { rank.obstacle = index - 1; }
  } else if (ahead.last_exclusive) {
    rank.obstacle = ahead.last_exclusive;
  } else if (!is_slotted(self) || note.slot) {
    rank.is_held = true;
  } else if (ahead.last_unclaimed) {
    rank.obstacle = ahead.last_unclaimed;
    rank.is_promised = ahead.is_each_promised && ahead.slotted < note.slots;
  } else if (ahead.slotted < note.slots) {
    // Those in front have theirs, those behind wait for ours: nobody else chooses now.
    rank.slot_to_claim = ahead.lowest_free_slot();
  }
  return rank;
}

bool holds(const std::vector<Member>& queue, std::size_t index)
{
  const Member& member = queue[index];
  if (is_slotted(member)) { return member.note.slot.has_value(); }
  const auto begin = queue.begin();
  const auto end = begin + static_cast<std::ptrdiff_t>(index);
  return member.note.mode == Mode::shared ? std::none_of(begin, end, is_exclusive) : index == 0;
}

Contender contender_of(const std::vector<Member>& queue, std::size_t index)
{
  const Member& member = queue[index];
  Contender contender;
  contender.mode = member.note.mode;
  contender.waits = !holds(queue, index);
  if (contender.waits) {
    for (std::size_t i = 0; i <= index; ++i) {
      if (!holds(queue, i)) { ++contender.position; }
    }
  }
  contender.token = std::to_string(member.created);
  contender.slot = member.note.slot;
  contender.owner = member.note.owner;
  contender.text = words(member.note.owner, member.key);
  return contender;
}

} // namespace lockrun::engines::etcd
