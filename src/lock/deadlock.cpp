#include "lock/deadlock.hpp"

#include "backends/queue.hpp"
#include "backends/slots.hpp"
#include "lock/look_turn.hpp"
#include "sys/clock.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <cerrno>
#include <map>
#include <string>

namespace lockrun {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using sys::LockLine;

constexpr nanoseconds k_shortest_pause = milliseconds(400);
// Between the look that found a circle and the one that makes sure.
constexpr nanoseconds k_second_look = seconds(1);
// One part in a hundred of the time, at most, and of ten waiters' together.
constexpr int k_rest_per_work = 100;
constexpr std::size_t k_waiters_for_full_rest = 10;

bool same_file(const LockLine& a, const LockLine& b)
{
  return a.inode == b.inode && a.device_major == b.device_major && a.device_minor == b.device_minor;
}

// Whether whoever holds `held` keeps `wanted` from being granted.
bool blocks(const LockLine& held, const LockLine& wanted)
{
  if (held.waits || held.kind != wanted.kind || !same_file(held, wanted)) { return false; }
  if (held.mode == Mode::shared && wanted.mode == Mode::shared) { return false; }
  return held.kind == LockLine::Kind::flock || (held.start <= wanted.end && wanted.start <= held.end);
}

bool waits_for_slot(const LockLine& line)
{
  const auto first = backends::byte_of_slot(0).start;
  return line.waits && line.kind == LockLine::Kind::ofd && line.start >= first &&
         line.start < first + backends::k_most_slots;
}

// For a slot only the first one in the queue of its file waits, with an ofd lock, which has no number: it is the one
// with the lowest place.
pid_t head_of_queue(const std::vector<LockLine>& lines, const LockLine& slot)
{
  const LockLine* head = nullptr;
  for (const LockLine& line : lines) {
    const bool is_in_queue = !line.waits && line.kind == LockLine::Kind::posix && line.start >= backends::k_queue;
    if (!is_in_queue || !same_file(line, slot)) { continue; }
    if (head == nullptr || line.start < head->start) { head = &line; }
  }
  return head == nullptr ? 0 : head->pid;
}

// Whether these are slots 0, 1, 2 …: what the kernel shows while others lock and unlock may lack a line.
bool is_from_first_slot_on(const std::vector<LockLine>& wanted)
{
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].start != backends::byte_of_slot(static_cast<int>(i)).start) { return false; }
  }
  return true;
}

} // namespace

// What one look sees: who waits for what, and what the tree that a process belongs to holds.
class DeadlockSearch::View {
public:
  // The circle from us back to us, or nothing. Who waits in it with nothing but a place in a queue is left out: it
  // keeps the next one waiting, but only as long as others keep it.
  std::vector<Link> circle()
  {
    m_waiters = waiters_in(sys::all_locks().value_or(std::vector<LockLine>()));
    const auto ours = std::find_if(
      m_waiters.begin(), m_waiters.end(), [us = sys::process_id()](const Link& waiter) { return waiter.pid == us; });
    if (ours == m_waiters.end()) { return {}; }
    m_path = {with_start(*ours)};
    m_visited = {ours->pid};
    if (until_served(0) != Until::us) { return {}; }
    const auto has_nothing = [this](const Link& link) { return !has_something_to_give(link.pid); };
    m_path.erase(std::remove_if(m_path.begin(), m_path.end(), has_nothing), m_path.end());
    return m_path;
  }

  std::size_t waiters() const noexcept { return m_waiters.size(); }

  // Whether giving up could be of use: the tree of `pid` holds more than places in queues.
  bool has_something_to_give(pid_t pid)
  {
    const auto& held = held_by_tree_of(pid);
    return std::any_of(held.begin(), held.end(), [](const LockLine& line) { return !backends::is_place(line); });
  }

private:
  // What `pid` and its ancestors hold; all that inherited a descriptor share what it holds.
  const std::vector<LockLine>& held_by_tree_of(pid_t pid)
  {
    if (const auto known = m_held.find(pid); known != m_held.end()) { return known->second; }
    std::vector<LockLine> held;
    for (pid_t ancestor = pid; ancestor > 0;) {
      const auto descriptors = sys::descriptors_of(ancestor);
      for (const int fd : descriptors.value_or(std::vector<int>())) {
        const auto status = sys::descriptor_status(ancestor, fd);
        // Not ours to look into; and the first process of all may have hundreds of them.
        if (!status && status.error().code == EACCES) { break; }
        if (!status || !sys::may_be_locked(status->type)) { continue; }
        const auto lines = sys::locks_of(ancestor, fd).value_or(std::vector<LockLine>());
        if (lines.empty() || LookTurn::may_be_on(status->identity)) { continue; }
        held.insert(held.end(), lines.begin(), lines.end());
      }
      const auto process = sys::process_status(ancestor);
      ancestor = process ? process->parent : 0;
    }
    return m_held[pid] = std::move(held);
  }

  static Link with_start(Link link)
  {
    const auto status = sys::process_status(link.pid);
    link.start = status ? status->start : 0;
    return link;
  }

  bool tree_blocks(pid_t pid, const LockLine& wanted)
  {
    const auto& held = held_by_tree_of(pid);
    return std::any_of(held.begin(), held.end(), [&](const LockLine& line) { return blocks(line, wanted); });
  }

  bool is_on_path(pid_t pid) const
  {
    return std::any_of(m_path.begin(), m_path.end(), [&](const Link& link) { return link.pid == pid; });
  }

  // For how long somebody waits: until somebody else is done, until those on the path are, or until we are.
  enum class Until { others, circle, us };

  // Depth first: who of the waiters is in a tree that holds what this one wants? The path grows by those who wait for
  // it, or for us.
  Until until_freed(const LockLine& wanted)
  {
    Until answer = Until::others;
    for (const Link& waiter : m_waiters) {
      if (!tree_blocks(waiter.pid, wanted)) { continue; }
      if (is_on_path(waiter.pid)) { answer = Until::circle; }
      if (std::find(m_visited.begin(), m_visited.end(), waiter.pid) != m_visited.end()) { continue; }
      m_visited.push_back(waiter.pid);
      const std::size_t index = m_path.size();
      m_path.push_back(with_start(waiter));
      const Until until = until_served(index);
      if (until == Until::us) { return until; }
      if (until == Until::circle) {
        answer = until;
      } else {
        m_path.resize(index);
      }
    }
    return answer;
  }

  // The waiter m_path[index] is served as soon as any of what it wants is free.
  Until until_served(std::size_t index)
  {
    const Link waiter = m_path[index];
    Until answer = Until::others;
    for (const LockLine& wanted : waiter.wanted) {
      // What its own tree has will not become free. (If that is all, it is a nested call that means to wait.)
      if (tree_blocks(waiter.pid, wanted)) { continue; }
      const bool is_ours = index > 0 && tree_blocks(m_path.front().pid, wanted);
      const Until until = is_ours ? Until::us : until_freed(wanted);
      if (until == Until::others) { return until; }
      answer = std::max(answer, until);
    }
    return answer;
  }

  // In the order of their numbers, so that two looks can be compared.
  static std::vector<Link> waiters_in(const std::vector<LockLine>& lines)
  {
    std::map<pid_t, Link> waiters;
    for (const LockLine& line : lines) {
      if (!line.waits) { continue; }
      const pid_t pid = waits_for_slot(line) ? head_of_queue(lines, line) : line.pid;
      if (pid <= 0) { continue; }
      Link& waiter = waiters[pid];
      waiter.pid = pid;
      if (waiter.wanted.empty() || waits_for_slot(waiter.wanted.front())) { waiter.wanted.push_back(line); }
    }
    std::vector<Link> all;
    for (auto& [pid, waiter] : waiters) {
      auto& wanted = waiter.wanted;
      std::sort(wanted.begin(), wanted.end(), sys::ByStart());
      if (!waits_for_slot(wanted.front()) || is_from_first_slot_on(wanted)) { all.push_back(std::move(waiter)); }
    }
    return all;
  }

  std::vector<Link> m_waiters;
  std::vector<Link> m_path;
  std::vector<pid_t> m_visited;
  std::map<pid_t, std::vector<LockLine>> m_held;
};

namespace {

// The name that `pid` has the file of `line` open under.
std::string path_of(pid_t pid, const LockLine& line)
{
  const auto descriptors = sys::descriptors_of(pid);
  for (const int fd : descriptors.value_or(std::vector<int>())) {
    const auto status = sys::descriptor_status(pid, fd);
    if (!status || status->identity.inode != line.inode) { continue; }
    if (auto path = sys::descriptor_path(pid, fd)) { return std::move(*path); }
  }
  return {};
}

} // namespace

std::optional<std::vector<Party>> DeadlockSearch::look()
{
  const nanoseconds began = sys::thread_time();
  const pid_t us = sys::process_id();
  std::vector<Link> circle;
  View view;
  // /proc/locks is long when many wait: it is read only if somebody could wait for us.
  if (!sys::check_proc() || !view.has_something_to_give(us)) {
    m_pause = k_longest_pause;
  } else {
    circle = view.circle();
    const auto crowds = static_cast<int>(std::max(view.waiters() / k_waiters_for_full_rest, std::size_t{1}));
    const nanoseconds rest = (sys::thread_time() - began) * k_rest_per_work * crowds;
    m_pause = circle.empty() ? std::clamp(rest, k_shortest_pause, k_longest_pause) : k_second_look;
  }
  const bool seen_before = !circle.empty() && circle == std::exchange(m_seen, circle);
  if (!seen_before) { return std::nullopt; }
  const auto own_name = sys::process_status(us);
  for (const Link& link : circle) {
    const auto other = sys::process_status(link.pid);
    // It has ended since the look, maybe because it gave up itself: there is no circle any more.
    if (!other || other->start != link.start || other->state == 'Z') { return std::nullopt; }
    const bool looks_too = own_name && other->name == own_name->name;
    const Link& ours = circle.front();
    if (looks_too && std::pair(link.start, link.pid) > std::pair(ours.start, ours.pid)) { return std::nullopt; }
  }
  std::vector<Party> parties;
  parties.reserve(circle.size());
  for (const Link& link : circle) {
    parties.push_back(
      {link.pid, sys::command_line(link.pid).value_or(std::string()), path_of(link.pid, link.wanted.front())});
  }
  return parties;
}

} // namespace lockrun
