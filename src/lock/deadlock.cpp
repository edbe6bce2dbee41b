#include "lock/deadlock.hpp"

#include "sys/clock.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <map>
#include <string>

namespace lockrun {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using sys::LockLine;

constexpr nanoseconds k_shortest_pause = milliseconds(500);
constexpr nanoseconds k_longest_pause = seconds(60);
// Between the look that found a circle and the one that makes sure.
constexpr nanoseconds k_second_look = seconds(1);
// One part in a hundred of the time, at most.
constexpr int k_rest_per_work = 100;

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

} // namespace

// What one look sees: who waits for what, and what the tree that a process belongs to holds.
class DeadlockSearch::View {
public:
  // The circle from us back to us, or nothing.
  std::vector<Link> circle()
  {
    m_lines = sys::all_locks().value_or(std::vector<LockLine>());
    const pid_t us = sys::process_id();
    const auto ours =
      std::find_if(m_lines.begin(), m_lines.end(), [&](const LockLine& line) { return line.waits && line.pid == us; });
    if (ours == m_lines.end()) { return {}; }
    std::vector<Link> path{link_of(*ours)};
    std::vector<pid_t> visited{us};
    return follow(path, visited) ? path : std::vector<Link>();
  }

  // What `pid` and its ancestors hold; all that inherited a descriptor share what it holds.
  const std::vector<LockLine>& held_by_tree_of(pid_t pid)
  {
    if (const auto known = m_held.find(pid); known != m_held.end()) { return known->second; }
    std::vector<LockLine> held;
    for (pid_t ancestor = pid; ancestor > 0;) {
      const auto descriptors = sys::descriptors_of(ancestor);
      for (const int fd : descriptors.value_or(std::vector<int>())) {
        const auto lines = sys::locks_of(ancestor, fd).value_or(std::vector<LockLine>());
        held.insert(held.end(), lines.begin(), lines.end());
      }
      const auto status = sys::process_status(ancestor);
      ancestor = status ? status->parent : 0;
    }
    return m_held[pid] = std::move(held);
  }

private:
  static Link link_of(const LockLine& line)
  {
    const auto status = sys::process_status(line.pid);
    return {line.pid, status ? status->start : 0, line};
  }

  bool tree_blocks(pid_t pid, const LockLine& wanted)
  {
    const auto& held = held_by_tree_of(pid);
    return std::any_of(held.begin(), held.end(), [&](const LockLine& line) { return blocks(line, wanted); });
  }

  // Depth first: who of the waiters is in a tree that holds what the last one on the path wants?
  bool follow(std::vector<Link>& path, std::vector<pid_t>& visited)
  {
    const Link last = path.back();
    // It waits for its own tree: that is a nested call, which means to (--nested wait), and no circle.
    if (tree_blocks(last.pid, last.wanted)) { return false; }
    if (path.size() > 1 && tree_blocks(path.front().pid, last.wanted)) { return true; }
    for (const LockLine& line : m_lines) {
      if (!line.waits || line.pid <= 0 || std::find(visited.begin(), visited.end(), line.pid) != visited.end()) {
        continue;
      }
      if (!tree_blocks(line.pid, last.wanted)) { continue; }
      visited.push_back(line.pid);
      path.push_back(link_of(line));
      if (follow(path, visited)) { return true; }
      path.pop_back();
    }
    return false;
  }

  std::vector<LockLine> m_lines;
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
  const nanoseconds began = sys::steady_now();
  const pid_t us = sys::process_id();
  std::vector<Link> circle;
  View view;
  // /proc/locks is long when many wait: it is read only if somebody could wait for us.
  if (view.held_by_tree_of(us).empty()) {
    m_pause = std::min(m_pause * 2, k_longest_pause);
  } else {
    circle = view.circle();
    const nanoseconds rest = std::max(k_shortest_pause, (sys::steady_now() - began) * k_rest_per_work);
    m_pause = circle.empty() ? rest : k_second_look;
  }
  const bool seen_before = !circle.empty() && circle == std::exchange(m_seen, circle);
  if (!seen_before) { return std::nullopt; }
  const auto own_name = sys::process_status(us);
  for (const Link& link : circle) {
    const auto other = sys::process_status(link.pid);
    const bool looks_too = other && own_name && other->name == own_name->name;
    const Link& ours = circle.front();
    if (looks_too && std::pair(link.start, link.pid) > std::pair(ours.start, ours.pid)) { return std::nullopt; }
  }
  std::vector<Party> parties;
  parties.reserve(circle.size());
  for (const Link& link : circle) {
    parties.push_back({link.pid, sys::command_line(link.pid).value_or(std::string()), path_of(link.pid, link.wanted)});
  }
  return parties;
}

} // namespace lockrun
