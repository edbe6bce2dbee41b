#include "lock/process_trees.hpp"

#include "kernel/ancestry.hpp"
#include "lock/lock_line.hpp"
#include "lock/look_turn.hpp"
#include "lock/nested.hpp"

#include <algorithm>
#include <cerrno>

namespace lockrun {
namespace {
using sys::LockLine;
} // namespace

bool ProcessTrees::block(pid_t pid, const LockLine& wanted)
{
  return any_in_tree_of(pid, [&](pid_t, const std::vector<LockLine>& held) {
    return std::any_of(held.begin(), held.end(), [&](const LockLine& line) { return blocks(line, wanted); });
  });
}

bool ProcessTrees::have_something_to_give(pid_t pid)
{
  return any_in_tree_of(
    pid, [](pid_t, const std::vector<LockLine>& held) { return !std::all_of(held.begin(), held.end(), is_of_waiter); });
}

const std::vector<LockLine>& ProcessTrees::lines()
{
  if (!m_lines) { m_lines = sys::all_locks().value_or(std::vector<LockLine>()); }
  return *m_lines;
}

std::size_t ProcessTrees::waiting() const
{
  if (!m_lines) { return 0; }
  const auto waits = [](const LockLine& line) { return line.waits; };
  return static_cast<std::size_t>(std::count_if(m_lines->begin(), m_lines->end(), waits));
}

ProcessTrees::Process& ProcessTrees::process(pid_t pid)
{
  const auto [known, is_new] = m_processes.try_emplace(pid);
  Process& process = known->second;
  if (!is_new) { return process; }
  process.pid = pid;
  const auto status = sys::process_status(pid);
  if (status) { process.status = *status; }
  process.held = held_by(pid, status && !is_init(*status));
  return process;
}

std::vector<LockLine> ProcessTrees::held_by(pid_t pid, bool may_have_taken)
{
  std::vector<LockLine> all;
  const auto descriptors = sys::descriptors_of(pid);
  bool is_refused = !descriptors && descriptors.error().code == EACCES;
  for (const int fd : descriptors.value_or(std::vector<int>())) {
    const auto file = sys::descriptor_status(pid, fd);
    is_refused = !file && file.error().code == EACCES;
    if (is_refused) { break; } // and so would be the others; the first process of all may have hundreds of them
    if (!file || !sys::may_be_locked(file->type)) { continue; }
    const auto held = sys::locks_of(pid, fd).value_or(std::vector<LockLine>());
    if (held.empty() || LookTurn::may_be_on(file->identity)) { continue; }
    all.insert(all.end(), held.begin(), held.end());
  }
  return is_refused && may_have_taken ? taken_by(pid) : all;
}

// What others wait for this process for. What it inherited from a lockrun that lives is that one's.
const std::vector<LockLine>& ProcessTrees::kept_by(Process& process)
{
  if (process.kept) { return *process.kept; }
  std::vector<LockLine>& kept = process.kept.emplace(process.held);
  const auto is_freed = [&](const LockLine& line) {
    if (line.kind != LockLine::Kind::flock || line.pid <= 0 || line.pid == process.pid) { return false; }
    const Process& taker = this->process(line.pid);
    return std::any_of(taker.held.begin(), taker.held.end(), [&](const LockLine& its) {
      return is_same_lock(its, line);
    }) && kernel::frees_its_lock(taker.status);
  };
  kept.erase(std::remove_if(kept.begin(), kept.end(), is_freed), kept.end());
  return kept;
}

// Whether `parent`, which is its parent, does not wait for `child`. Asked only where it matters: of one that has a
// lock, or has inherited one.
bool ProcessTrees::is_adopted(Process& child, const Process& parent)
{
  if (!child.is_adopted) { child.is_adopted = !parent.held.empty() && kernel::is_adopted(child.status, parent.status); }
  return *child.is_adopted;
}

// What /proc/locks says that `pid` took, where we may not see what it has: flock and POSIX locks.
std::vector<LockLine> ProcessTrees::taken_by(pid_t pid)
{
  std::vector<LockLine> taken;
  for (const LockLine& line : lines()) {
    if (line.pid != pid || line.waits || LookTurn::may_be_on(line)) { continue; }
    taken.push_back(line);
  }
  return taken;
}

} // namespace lockrun
