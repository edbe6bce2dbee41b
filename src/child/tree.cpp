#include "child/tree.hpp"

#include "sys/process.hpp"

#include <algorithm>
#include <cerrno>

#include <sys/wait.h>

namespace lockrun::child {

Result<Tree> Tree::before_start()
{
  Tree tree;
  const auto child = sys::wait_child(0, WEXITED | WNOHANG | WNOWAIT);
  if (!child && child.error().code == ECHILD) { return tree; }
  const auto all = sys::all_processes();
  if (!all) { return tl::unexpected(all.error()); }
  for (const auto& process : *all) {
    if (process.parent == sys::process_id()) { tree.m_strangers.push_back(process.pid); }
  }
  return tree;
}

Result<std::vector<sys::ProcessStatus>> Tree::members() const
{
  auto all = sys::all_processes();
  if (!all) { return tl::unexpected(all.error()); }
  const auto is_stranger = [this](pid_t pid) {
    return std::find(m_strangers.begin(), m_strangers.end(), pid) != m_strangers.end();
  };
  std::vector<sys::ProcessStatus> found;
  std::vector<pid_t> parents{sys::process_id()};
  for (std::size_t next = 0; next < parents.size(); ++next) {
    for (auto& process : *all) {
      if (process.parent != parents[next] || is_stranger(process.pid)) { continue; }
      parents.push_back(process.pid);
      if (process.state != 'Z' && process.state != 'X') { found.push_back(process); }
    }
  }
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
  // The handle is on whoever has the number now: is that still the one that we saw?
  const auto now = sys::process_status(process.pid);
  if (!now || now->start != process.start) { return Delivery::gone; }
  const auto sent = sys::signal_process(*handle, signal);
  if (sent) { return Delivery::sent; }
  return sent.error().code == EPERM ? Delivery::refused : Delivery::gone;
}

} // namespace lockrun::child
