#include "lock/wait_graph.hpp"

#include "sys/process.hpp"

#include <utility>

namespace lockrun {
namespace {

using sys::LockLine;

// Whether these are slots 0, 1, 2 …: what the kernel shows while others lock and unlock may lack a line.
bool is_from_first_slot_on(const std::vector<LockLine>& wanted)
{
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (slot_of(wanted[i]) != static_cast<int>(i)) { return false; }
  }
  return true;
}

// In the order of their numbers, so that two looks can be compared.
std::vector<WaitingProcess> waiters_in(const std::vector<LockLine>& lines)
{
  std::map<pid_t, WaitingProcess> waiters;
  for (const LockLine& line : lines) {
    if (!line.waits) { continue; }
    const pid_t pid = waiting_process(lines, line);
    if (pid == 0) { continue; }
    WaitingProcess& waiter = waiters[pid];
    waiter.pid = pid;
    if (waiter.wanted.empty() || slot_of(waiter.wanted.front())) { waiter.wanted.push_back(line); }
  }
  std::vector<WaitingProcess> all;
  for (auto& [pid, waiter] : waiters) {
    auto& wanted = waiter.wanted;
    sort_by_start(wanted);
    if (!slot_of(wanted.front()) || is_from_first_slot_on(wanted)) { all.push_back(std::move(waiter)); }
  }
  return all;
}

std::string path_in(pid_t pid, const LockLine& line)
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

bool WaitGraph::keeps_others_waiting()
{
  m_waiters = waiters_in(m_trees.lines());
  const pid_t us = sys::process_id();
  return std::any_of(m_waiters.begin(), m_waiters.end(), [&](const WaitingProcess& waiter) {
    return std::any_of(
      waiter.wanted.begin(), waiter.wanted.end(), [&](const LockLine& wanted) { return m_trees.block(us, wanted); });
  });
}

std::vector<WaitingProcess> WaitGraph::circle()
{
  const auto ours = std::find_if(m_waiters.begin(), m_waiters.end(),
    [us = sys::process_id()](const WaitingProcess& waiter) { return waiter.pid == us; });
  if (ours == m_waiters.end()) { return {}; }
  index_what_trees_hold();
  if (!leads_back_to_us(static_cast<std::size_t>(ours - m_waiters.begin()))) { return {}; }
  const auto has_nothing = [this](const WaitingProcess& each) { return !m_trees.have_something_to_give(each.pid); };
  m_path.erase(std::remove_if(m_path.begin(), m_path.end(), has_nothing), m_path.end());
  return m_path;
}

std::size_t WaitGraph::lookers()
{
  const auto looks = [this](const WaitingProcess& waiter) { return m_trees.have_something_to_give(waiter.pid); };
  return static_cast<std::size_t>(std::count_if(m_waiters.begin(), m_waiters.end(), looks));
}

std::string WaitGraph::path_of(const WaitingProcess& waiter)
{
  const LockLine& wanted = waiter.wanted.front();
  std::string path = path_in(waiter.pid, wanted);
  if (path.empty()) {
    m_trees.any_in_tree_of(sys::process_id(), [&](pid_t member, const std::vector<LockLine>&) {
      path = path_in(member, wanted);
      return !path.empty();
    });
  }
  return path;
}

// By file and in the order of their ranges: thousands who wait in one queue have a byte of the same file each.
void WaitGraph::index_what_trees_hold()
{
  for (std::size_t i = 0; i < m_waiters.size(); ++i) {
    (void)m_trees.any_in_tree_of(m_waiters[i].pid, [&](pid_t, const std::vector<LockLine>& held) {
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
std::vector<std::size_t> WaitGraph::blockers_of(const LockLine& wanted) const
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

// Depth first, without recursion, because others decide how deep it goes: who of the waiters is in a tree that holds
// what this one wants? The path grows by those who wait for it, or for us. Whether it comes back to us.
bool WaitGraph::leads_back_to_us(std::size_t ours)
{
  std::vector<Step> steps;
  std::vector<bool> is_visited(m_waiters.size());
  std::vector<bool> is_on_path(m_waiters.size());
  const auto enter = [&](std::size_t waiter) {
    is_visited[waiter] = is_on_path[waiter] = true;
    steps.push_back({waiter, m_path.size()});
    m_path.push_back(m_waiters[waiter]);
    m_path.back().start = m_trees.start_of(m_path.back().pid);
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
    const std::size_t depth = step.depth;
    steps.pop_back();
    if (steps.empty()) { return *until == Until::us; }
    Step& before = steps.back();
    if (*until == Until::others) {
      for (std::size_t i = depth; i < m_path.size(); ++i) { is_on_path[m_path_waiters[i]] = false; }
      m_path.resize(depth);
      m_path_waiters.resize(depth);
      continue;
    }
    before.freed = *until;
    if (*until == Until::us) { before.blockers.clear(); }
  }
}

// The next one to enter of those who keep the waiter from what is followed; none: all are known.
std::optional<std::size_t> WaitGraph::next_blocker(
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
std::optional<WaitGraph::Until> WaitGraph::answer_of(Step& step)
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
    if (m_trees.block(m_waiters[step.waiter].pid, wanted)) { continue; }
    step.is_asked = true;
    step.freed = Until::others;
    if (step.depth > 0 && m_trees.block(m_path.front().pid, wanted)) {
      step.freed = Until::us;
    } else {
      step.blockers = blockers_of(wanted);
      std::reverse(step.blockers.begin(), step.blockers.end());
    }
    return std::nullopt;
  }
  return step.served;
}

} // namespace lockrun
