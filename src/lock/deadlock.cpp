#include "lock/deadlock.hpp"

#include "kernel/ancestry.hpp"
#include "lock/lock_line.hpp"
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
// For how long each of those that started later may give up before it is our turn: the one that should may not see the
// circle, because it may not look into the others, or not look at all (Nested::wait).
constexpr nanoseconds k_chance = seconds(2);
// One part in a hundred of the time, at most, and of ten together that look like us.
constexpr int k_rest_per_work = 100;
constexpr std::size_t k_lookers_for_full_rest = 10;

// Whether these are slots 0, 1, 2 …: what the kernel shows while others lock and unlock may lack a line.
bool is_from_first_slot_on(const std::vector<LockLine>& wanted)
{
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (slot_of(wanted[i]) != static_cast<int>(i)) { return false; }
  }
  return true;
}

} // namespace

// What one look sees: who waits for what, and what the tree that a process belongs to holds. Nothing is read twice:
// most ancestors are those of many waiters.
class DeadlockSearch::View {
public:
  // The circle from us back to us, or nothing; after keeps_others_waiting(). A process that waits in it with nothing
  // but a place in a queue is left out: it keeps the next one waiting, but only as long as others keep it.
  std::vector<Link> circle()
  {
    const auto ours = std::find_if(
      m_waiters.begin(), m_waiters.end(), [us = sys::process_id()](const Link& waiter) { return waiter.pid == us; });
    if (ours == m_waiters.end()) { return {}; }
    index_what_trees_hold();
    if (!leads_back_to_us(static_cast<std::size_t>(ours - m_waiters.begin()))) { return {}; }
    const auto has_nothing = [this](const Link& link) { return !has_something_to_give(link.pid); };
    m_path.erase(std::remove_if(m_path.begin(), m_path.end(), has_nothing), m_path.end());
    return m_path;
  }

  // Whether anything waits for what our tree holds. If not, we are in no circle, and what all the others hold, which is
  // many system calls for each of them, need not be known.
  bool keeps_others_waiting()
  {
    m_waiters = waiters_in(lines());
    const pid_t us = sys::process_id();
    return std::any_of(m_waiters.begin(), m_waiters.end(), [&](const Link& waiter) {
      return std::any_of(
        waiter.wanted.begin(), waiter.wanted.end(), [&](const LockLine& wanted) { return tree_blocks(us, wanted); });
    });
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
    return any_in_tree_of(pid,
      [](pid_t, const std::vector<LockLine>& held) { return !std::all_of(held.begin(), held.end(), is_of_waiter); });
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
      any_in_tree_of(sys::process_id(), [&](pid_t member, const std::vector<LockLine>&) {
        path = path_in(member, wanted);
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
    sys::ProcessStatus status;
    std::vector<LockLine> held;
    std::optional<bool> is_adopted; // by `parent`, which does not wait for it; none: not asked yet
    // Of `held`, what is not freed by a lockrun that took it, whoever shares it; none: not asked yet.
    std::optional<std::vector<LockLine>> kept;
  };

  Process& process(pid_t pid)
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
      process.status = *status;
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

  // What others wait for this process for. What it inherited from a lockrun that lives is that one's.
  const std::vector<LockLine>& kept_by(Process& process)
  {
    if (process.kept) { return *process.kept; }
    std::vector<LockLine>& kept = process.kept.emplace(process.held);
    const auto is_freed = [&](const LockLine& line) {
      if (line.kind != LockLine::Kind::flock || line.pid <= 0 || line.pid == process.pid) { return false; }
      const Process& taker = this->process(line.pid);
      const auto& has = taker.held;
      return std::any_of(has.begin(), has.end(), [&](const LockLine& its) { return is_same_lock(its, line); }) &&
             kernel::frees_its_lock(taker.status);
    };
    kept.erase(std::remove_if(kept.begin(), kept.end(), is_freed), kept.end());
    return kept;
  }

  // Whether `parent`, which is its parent, does not wait for `child`. Asked only where it matters: of one that has a
  // lock, or has inherited one.
  static bool is_adopted(Process& child, const Process& parent)
  {
    if (!child.is_adopted) {
      child.is_adopted = !parent.held.empty() && kernel::is_adopted(child.status, parent.status);
    }
    return *child.is_adopted;
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

  // Whether the condition is true of `pid` or any of its ancestors, as far as these wait for it, and what they keep.
  template <class Condition>
  bool any_in_tree_of(pid_t pid, Condition is_true_of)
  {
    for (Process* child = nullptr; pid > 0;) {
      Process& current = process(pid);
      // The parent has ended since, and another process has got its number.
      if (child != nullptr && (current.start > child->start || is_adopted(*child, current))) { return false; }
      if (is_true_of(current.pid, kept_by(current))) { return true; }
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
    return any_in_tree_of(pid, [&](pid_t, const std::vector<LockLine>& held) {
      return std::any_of(held.begin(), held.end(), [&](const LockLine& line) { return blocks(line, wanted); });
    });
  }

  // What the tree of a waiter holds.
  struct TreeLock {
    LockLine line;
    std::size_t waiter;    // in m_waiters
    std::int64_t last = 0; // the highest byte of this one and all before it, of the same file
  };

  // By file and in the order of their ranges: thousands who wait in one queue have a byte of the same file each.
  void index_what_trees_hold()
  {
    for (std::size_t i = 0; i < m_waiters.size(); ++i) {
      (void)any_in_tree_of(m_waiters[i].pid, [&](pid_t, const std::vector<LockLine>& held) {
        for (const LockLine& line : held) { m_held_by_trees[file_of(line)].push_back({line, i}); }
        return false;
      });
    }
    for (auto& [file, locks] : m_held_by_trees) {
      std::stable_sort(
        locks.begin(), locks.end(), [](const TreeLock& a, const TreeLock& b) { return a.line.start < b.line.start; });
      std::int64_t last = 0;
      for (TreeLock& lock : locks) { lock.last = last = std::max(last, lock.line.end); }
    }
  }

  // The waiters in whose trees somebody holds what keeps `wanted` from being granted, each once.
  std::vector<std::size_t> blockers_of(const LockLine& wanted) const
  {
    std::vector<std::size_t> found;
    const auto known = m_held_by_trees.find(file_of(wanted));
    if (known == m_held_by_trees.end()) { return found; }
    const auto& locks = known->second;
    auto after = std::upper_bound(locks.begin(), locks.end(), wanted.end,
      [](std::int64_t end, const TreeLock& lock) { return end < lock.line.start; });
    while (after != locks.begin() && (--after)->last >= wanted.start) {
      if (blocks(after->line, wanted)) { found.push_back(after->waiter); }
    }
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
  }

  // For how long somebody waits: until somebody else is done, until those on the path are, or until we are.
  enum class Until { others, circle, us };

  // One waiter on the way that the search has gone, and where it goes on.
  struct Step {
    std::size_t waiter;                  // in m_waiters
    std::size_t place;                   // in m_path
    std::size_t wanted = 0;              // which of what it wants is followed
    bool is_asked = false;               // `blockers` are those of that one
    std::vector<std::size_t> blockers{}; // still to be visited
    Until freed = Until::others;         // when that one is free, as far as is known
    Until served = Until::others;        // when the waiter has any of those before, as far as is known
  };

  // Depth first, without recursion, because others decide how deep it goes: who of the waiters is in a tree that holds
  // what this one wants? The path grows by those who wait for it, or for us. Whether it comes back to us.
  bool leads_back_to_us(std::size_t ours)
  {
    std::vector<Step> steps;
    std::vector<bool> is_visited(m_waiters.size());
    std::vector<bool> is_on_path(m_waiters.size());
    const auto enter = [&](std::size_t waiter) {
      is_visited[waiter] = is_on_path[waiter] = true;
      steps.push_back({waiter, m_path.size()});
      m_path.push_back(with_start(m_waiters[waiter]));
      m_path_waiters.push_back(waiter);
    };
    enter(ours);
    for (;;) {
      Step& step = steps.back();
      if (const auto blocker = next_blocker(step, is_visited, is_on_path)) {
        enter(*blocker);
        continue;
      }
      const auto until = answer_of(step);
      if (!until) { continue; }
      const std::size_t place = step.place;
      steps.pop_back();
      if (steps.empty()) { return *until == Until::us; }
      Step& before = steps.back();
      if (*until == Until::others) {
        for (std::size_t i = place; i < m_path.size(); ++i) { is_on_path[m_path_waiters[i]] = false; }
        m_path.resize(place);
        m_path_waiters.resize(place);
        continue;
      }
      before.freed = *until;
      if (*until == Until::us) { before.blockers.clear(); }
    }
  }

  // The next one to enter of those who keep the waiter from what is followed; none: all are known.
  static std::optional<std::size_t> next_blocker(
    Step& step, const std::vector<bool>& is_visited, const std::vector<bool>& is_on_path)
  {
    while (!step.blockers.empty()) {
      const std::size_t blocker = step.blockers.back();
      step.blockers.pop_back();
      if (is_on_path[blocker]) { step.freed = std::max(step.freed, Until::circle); }
      if (!is_visited[blocker]) { return blocker; }
    }
    return std::nullopt;
  }

  // The waiter is served as soon as any of what it wants is free, and that is free when all who have it are done. None:
  // there is more to follow.
  std::optional<Until> answer_of(Step& step)
  {
    const std::vector<LockLine>& all = m_waiters[step.waiter].wanted;
    if (step.is_asked) {
      if (step.freed == Until::others) { return Until::others; }
      step.served = std::max(step.served, step.freed);
      step.is_asked = false;
      ++step.wanted;
    }
    for (; step.wanted < all.size(); ++step.wanted) {
      const LockLine& wanted = all[step.wanted];
      // What its own tree has will not become free. (If that is all, it is a nested call that means to wait.)
      if (tree_blocks(m_waiters[step.waiter].pid, wanted)) { continue; }
      step.is_asked = true;
      step.freed = Until::others;
      if (step.place > 0 && tree_blocks(m_path.front().pid, wanted)) {
        step.freed = Until::us;
      } else {
        step.blockers = blockers_of(wanted);
        std::reverse(step.blockers.begin(), step.blockers.end());
      }
      return std::nullopt;
    }
    return step.served;
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
      const pid_t pid = waiting_process(lines, line);
      if (pid == 0) { continue; }
      Link& waiter = waiters[pid];
      waiter.pid = pid;
      if (waiter.wanted.empty() || slot_of(waiter.wanted.front())) { waiter.wanted.push_back(line); }
    }
    std::vector<Link> all;
    for (auto& [pid, waiter] : waiters) {
      auto& wanted = waiter.wanted;
      sort_by_start(wanted);
      if (!slot_of(wanted.front()) || is_from_first_slot_on(wanted)) { all.push_back(std::move(waiter)); }
    }
    return all;
  }

  std::vector<Link> m_waiters;
  std::vector<Link> m_path;
  std::vector<std::size_t> m_path_waiters; // the same, in m_waiters
  std::map<FileKey, std::vector<TreeLock>> m_held_by_trees;
  std::optional<std::vector<LockLine>> m_lines; // of /proc/locks
  std::map<pid_t, Process> m_processes;
};

namespace {

// Whether `other` looks for circles too, so that only one of us gives up: it runs this program, whatever the name is
// that it was started by. As flock(1) the program does not look.
bool looks_too(const sys::ProcessStatus& other)
{
  if (other.name == "flock") { return false; }
  if (kernel::runs_our_program(other)) { return true; }
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
  const bool is_in_way = could_help && view.keeps_others_waiting();
  if (is_in_way) { circle = view.circle(); }
  // Where many look, each does so less often; those who have nothing to find out all together as often as one.
  const std::size_t lookers = is_in_way ? view.lookers() : view.waiting();
  const std::size_t crowd = could_help ? lookers / k_lookers_for_full_rest : lookers;
  const nanoseconds rest =
    (sys::thread_time() - began) * k_rest_per_work * static_cast<int>(std::max(crowd, std::size_t{1}));
  const bool seen_before = circle == std::exchange(m_seen, circle) && !circle.empty();
  m_pause = could_help ? std::clamp(rest, k_shortest_pause, k_longest_pause) : std::max(rest, k_longest_pause);
  if (!circle.empty() && !seen_before) { m_pause = k_second_look; }
  if (!seen_before) {
    m_certain_since.reset();
    return std::nullopt;
  }
  const auto younger = younger_lookers(circle);
  if (!younger) { return std::nullopt; }
  const nanoseconds now = sys::steady_now();
  if (!m_certain_since) { m_certain_since = now; }
  const nanoseconds turn = *m_certain_since + *younger * k_chance;
  if (now < turn) {
    m_pause = turn - now;
    return std::nullopt;
  }
  std::vector<Party> parties;
  parties.reserve(circle.size());
  for (const Link& link : circle) {
    parties.push_back({link.pid, sys::command_line(link.pid).value_or(std::string()), view.path_of(link)});
  }
  return parties;
}

std::optional<int> DeadlockSearch::younger_lookers(const std::vector<Link>& circle)
{
  int younger = 0;
  const Link& ours = circle.front();
  for (const Link& link : circle) {
    const auto other = sys::process_status(link.pid);
    // It has ended since the look, maybe because it gave up itself: there is no circle any more.
    if (!other || other->start != link.start || other->state == 'Z') { return std::nullopt; }
    const bool is_younger = std::pair(link.start, link.pid) > std::pair(ours.start, ours.pid);
    if (is_younger && looks_too(*other)) { ++younger; }
  }
  return younger;
}

} // namespace lockrun
