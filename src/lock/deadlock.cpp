#include "lock/deadlock.hpp"

#include "backends/queue.hpp"
#include "backends/slots.hpp"
#include "lock/look_turn.hpp"
#include "lock/nested.hpp"
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
// One part in a hundred of the time, at most, and of ten together that look like us.
constexpr int k_rest_per_work = 100;
constexpr std::size_t k_lookers_for_full_rest = 10;

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

// What one look sees: who waits for what, and what the tree that a process belongs to holds. Nothing is read twice:
// most ancestors are those of many waiters.
class DeadlockSearch::View {
public:
  // The circle from us back to us, or nothing. Who waits in it with nothing but a place in a queue is left out: it
  // keeps the next one waiting, but only as long as others keep it.
  std::vector<Link> circle()
  {
    m_waiters = waiters_in(lines());
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

  // How many look for circles as often as we do, because their trees hold something too.
  std::size_t lookers()
  {
    const auto looks = [this](const Link& waiter) { return has_something_to_give(waiter.pid); };
    return static_cast<std::size_t>(std::count_if(m_waiters.begin(), m_waiters.end(), looks));
  }

  // Whether giving up could be of use: the tree of `pid` holds more than places in queues.
  bool has_something_to_give(pid_t pid)
  {
    return any_in_tree_of(pid, [](const Process& process) {
      return !std::all_of(process.held.begin(), process.held.end(), backends::is_place);
    });
  }

  // All who wait for anything, if /proc/locks had to be read.
  std::size_t waiting() const
  {
    if (!m_lines) { return 0; }
    const auto waits = [](const LockLine& line) { return line.waits; };
    return static_cast<std::size_t>(std::count_if(m_lines->begin(), m_lines->end(), waits));
  }

  // The name that `link` has the file open under for which it waits; or our tree, where we may not look into that.
  std::string path_of(const Link& link)
  {
    const LockLine& wanted = link.wanted.front();
    std::string path = path_in(link.pid, wanted);
    if (path.empty()) {
      any_in_tree_of(sys::process_id(), [&](const Process& process) {
        path = path_in(process.pid, wanted);
        return !path.empty();
      });
    }
    return path;
  }

private:
  // One process, and what it holds; all that inherited a descriptor share what it holds.
  struct Process {
    pid_t pid = 0;
    pid_t parent = 0;
    std::uint64_t start = 0;
    std::vector<LockLine> held;
  };

  const Process& process(pid_t pid)
  {
    const auto [known, is_new] = m_processes.try_emplace(pid);
    Process& process = known->second;
    if (!is_new) { return process; }
    process.pid = pid;
    bool may_have_taken = false;
    const auto status = sys::process_status(pid);
    if (status) {
      process.parent = status->parent;
      process.start = status->start;
      may_have_taken = !is_init(*status);
    }
    const auto descriptors = sys::descriptors_of(pid);
    bool is_refused = !descriptors && descriptors.error().code == EACCES;
    for (const int fd : descriptors.value_or(std::vector<int>())) {
      const auto file = sys::descriptor_status(pid, fd);
      is_refused = !file && file.error().code == EACCES;
      if (is_refused) { break; } // and so would be the others; the first process of all may have hundreds of them
      if (!file || !sys::may_be_locked(file->type)) { continue; }
      const auto held = sys::locks_of(pid, fd).value_or(std::vector<LockLine>());
      if (held.empty() || LookTurn::may_be_on(file->identity)) { continue; }
      process.held.insert(process.held.end(), held.begin(), held.end());
    }
    if (is_refused && may_have_taken) { process.held = taken_by(pid); }
    return process;
  }

  // What /proc/locks says that `pid` took, where we may not see what it has: flock and POSIX locks.
  std::vector<LockLine> taken_by(pid_t pid)
  {
    std::vector<LockLine> taken;
    for (const LockLine& line : lines()) {
      if (line.pid != pid || line.waits || LookTurn::may_be_on(line)) { continue; }
      taken.push_back(line);
    }
    return taken;
  }

  // /proc/locks is long when many wait: it is read only when something is to be found there.
  const std::vector<LockLine>& lines()
  {
    if (!m_lines) { m_lines = sys::all_locks().value_or(std::vector<LockLine>()); }
    return *m_lines;
  }

  // Whether the condition is true of `pid` or any of its ancestors.
  template <class Condition>
  bool any_in_tree_of(pid_t pid, Condition is_true_of)
  {
    for (const Process* child = nullptr; pid > 0;) {
      const Process& current = process(pid);
      // The parent has ended since, and somebody has got its number.
      if (child != nullptr && current.start > child->start) { return false; }
      if (is_true_of(current)) { return true; }
      child = &current;
      pid = current.parent;
    }
    return false;
  }

  Link with_start(Link link)
  {
    link.start = process(link.pid).start;
    return link;
  }

  bool tree_blocks(pid_t pid, const LockLine& wanted)
  {
    return any_in_tree_of(pid, [&](const Process& process) {
      const auto& held = process.held;
      return std::any_of(held.begin(), held.end(), [&](const LockLine& line) { return blocks(line, wanted); });
    });
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

  static std::string path_in(pid_t pid, const LockLine& line)
  {
    const auto descriptors = sys::descriptors_of(pid);
    for (const int fd : descriptors.value_or(std::vector<int>())) {
      const auto status = sys::descriptor_status(pid, fd);
      if (!status || status->identity.inode != line.inode) { continue; }
      if (auto path = sys::descriptor_path(pid, fd)) { return std::move(*path); }
    }
    return {};
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
  std::optional<std::vector<LockLine>> m_lines; // of /proc/locks
  std::map<pid_t, Process> m_processes;
};

namespace {

// Whether `other` looks for circles too, so that only one of us gives up: it runs this program, whatever the name is
// that it was started by. As flock(1) the program does not look.
bool looks_too(const sys::ProcessStatus& other)
{
  if (other.name == "flock") { return false; }
  const auto ours = sys::stat("/proc/self/exe");
  const auto its = sys::stat(("/proc/" + std::to_string(other.pid) + "/exe").c_str());
  if (ours && its && ours->identity == its->identity) { return true; }
  // Another version, the one before an upgrade; or one that we may not look into.
  const auto us = sys::process_status(sys::process_id());
  return us && us->name == other.name;
}

} // namespace

std::optional<std::vector<Party>> DeadlockSearch::look()
{
  const nanoseconds began = sys::thread_time();
  const pid_t us = sys::process_id();
  std::vector<Link> circle;
  View view;
  const bool could_help = sys::check_proc() && view.has_something_to_give(us);
  if (could_help) { circle = view.circle(); }
  // Where many look, each does so less often; those who have nothing to find out all together as often as one.
  const std::size_t crowd = could_help ? view.lookers() / k_lookers_for_full_rest : view.waiting();
  const nanoseconds rest =
    (sys::thread_time() - began) * k_rest_per_work * static_cast<int>(std::max(crowd, std::size_t{1}));
  const bool seen_before = circle == std::exchange(m_seen, circle) && !circle.empty();
  m_pause = could_help ? std::clamp(rest, k_shortest_pause, k_longest_pause) : std::max(rest, k_longest_pause);
  if (!circle.empty() && !seen_before) { m_pause = k_second_look; }
  if (!seen_before) { return std::nullopt; }
  for (const Link& link : circle) {
    const auto other = sys::process_status(link.pid);
    // It has ended since the look, maybe because it gave up itself: there is no circle any more.
    if (!other || other->start != link.start || other->state == 'Z') { return std::nullopt; }
    const Link& ours = circle.front();
    const bool is_younger = std::pair(link.start, link.pid) > std::pair(ours.start, ours.pid);
    if (is_younger && looks_too(*other)) { return std::nullopt; }
  }
  std::vector<Party> parties;
  parties.reserve(circle.size());
  for (const Link& link : circle) {
    parties.push_back({link.pid, sys::command_line(link.pid).value_or(std::string()), view.path_of(link)});
  }
  return parties;
}

} // namespace lockrun
