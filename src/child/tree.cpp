#include "child/tree.hpp"

#include "child/witness.hpp"
#include "sys/process.hpp"
#include "sys/signal.hpp"

#include <algorithm>

namespace lockrun::child {

Result<Tree> Tree::before_start()
{
  if (const auto checked = sys::check_proc(); !checked) { return tl::unexpected(checked.error()); }
  if (const auto reaper = sys::become_subreaper(); !reaper) { return tl::unexpected(reaper.error()); }
  return Tree();
}

void Tree::leave_out(pid_t child)
{
  if (auto status = sys::process_status(child)) { m_strangers.push_back(std::move(*status)); }
}

bool Tree::is_stranger(const sys::ProcessStatus& process) const
{
  return std::any_of(m_strangers.begin(), m_strangers.end(),
    [&](const sys::ProcessStatus& known) { return known.pid == process.pid && known.start == process.start; });
}

bool Tree::is_helper(pid_t pid) const
{
  if (pid == m_intermediate) { return true; }
  if (m_witness == nullptr) { return false; }
  const auto processes = m_witness->processes();
  return std::find(processes.begin(), processes.end(), pid) != processes.end();
}

std::vector<sys::ProcessStatus> Tree::descendants(const std::vector<sys::ProcessStatus>& all) const
{
  std::vector<sys::ProcessStatus> found;
  std::vector<pid_t> parents{sys::process_id()};
  for (std::size_t next = 0; next < parents.size(); ++next) {
    for (const auto& process : all) {
      if (process.parent != parents[next] || is_stranger(process)) { continue; }
      parents.push_back(process.pid);
      found.push_back(process);
    }
  }
  return found;
}

Result<std::vector<sys::ProcessStatus>> Tree::members() const
{
  const auto all = sys::all_processes();
  if (!all) { return tl::unexpected(all.error()); }
  auto found = descendants(*all);
  const auto is_none = [this](const sys::ProcessStatus& process) {
    return process.state == 'Z' || process.state == 'X' || is_helper(process.pid);
  };
  found.erase(std::remove_if(found.begin(), found.end(), is_none), found.end());
  return found;
}

std::vector<pid_t> Tree::children() const
{
  auto found = sys::children().value_or(std::vector<pid_t>());
  const auto is_foreign = [this](pid_t pid) {
    if (is_helper(pid)) { return true; }
    if (!has_strangers()) { return false; }
    const auto status = sys::process_status(pid);
    return status && is_stranger(*status);
  };
  found.erase(std::remove_if(found.begin(), found.end(), is_foreign), found.end());
  return found;
}

Delivery send(const sys::ProcessStatus& process, int signal)
{
  const auto handle = sys::open_process(process.pid);
  if (!handle) {
    if (handle.error().code == ESRCH) { return Delivery::gone; }
    // No such call (Linux before 5.3): then the number is all there is.
    const auto sent = sys::kill(process.pid, signal);
    if (sent) { return Delivery::sent; }
    return sent.error().code == EPERM ? Delivery::refused : Delivery::gone;
  }
  // The handle is on the process that has the number now: is that still the one that we saw?
  const auto now = sys::process_status(process.pid);
  if (!now || now->start != process.start) { return Delivery::gone; }
  const auto sent = sys::signal_process(*handle, signal);
  if (sent) { return Delivery::sent; }
  return sent.error().code == EPERM ? Delivery::refused : Delivery::gone;
}

} // namespace lockrun::child
