#include "child/terminator.hpp"

#include "sys/clock.hpp"
#include "sys/process.hpp"
#include "sys/signal.hpp"

#include <cerrno>

#include <sys/wait.h>

namespace lockrun::child {
namespace {

// A process that SIGKILL has not ended by then sits in the kernel (state D).
constexpr std::chrono::milliseconds k_patience_with_killed{2000};

} // namespace

bool reap_all()
{
  for (;;) {
    const auto change = sys::wait_child(0, WEXITED | WNOHANG);
    if (!change) { return change.error().code != ECHILD; }
    if (!*change) { return true; }
  }
}

bool Terminator::ask(int signal)
{
  const auto members = m_tree.members();
  if (!members) { return false; }
  for (const auto& member : *members) {
    if (was_asked(member)) { continue; }
    m_asked.push_back(member);
    (void)send(member, signal);
    (void)send(member, SIGCONT);
  }
  return true;
}

bool Terminator::kill()
{
  if (m_group != nullptr) { m_group->kill(); }
  const auto members = m_tree.members();
  if (!members) { return false; }
  std::vector<sys::ProcessStatus> immortal;
  const bool long_enough = sys::elapsed_now() - m_kill_began > k_patience_with_killed;
  for (const auto& member : *members) {
    const Delivery delivery = send(member, SIGKILL);
    if (delivery == Delivery::refused || (long_enough && delivery == Delivery::sent)) { immortal.push_back(member); }
  }
  if (!immortal.empty() && !std::exchange(m_has_complained, true)) { m_complaint(immortal); }
  return true;
}

bool Terminator::kill_children() const
{
  bool sent_any = false;
  for (const pid_t child : m_tree.children()) { sent_any = sys::kill(child, SIGKILL).has_value() || sent_any; }
  return sent_any;
}

void Terminator::begin_killing()
{
  m_kill_began = sys::elapsed_now();
  if (m_group != nullptr) { m_group->kill(); }
}

bool Terminator::was_asked(const sys::ProcessStatus& member) const
{
  return std::any_of(m_asked.begin(), m_asked.end(),
    [&](const sys::ProcessStatus& asked) { return asked.pid == member.pid && asked.start == member.start; });
}

} // namespace lockrun::child
