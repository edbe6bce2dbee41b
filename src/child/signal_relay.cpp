#include "child/signal_relay.hpp"

#include "sys/process.hpp"

#include <cerrno>
#include <utility>

namespace lockrun::child {

using std::chrono::nanoseconds;

SignalRelay::SignalRelay(CommandState& command, const Supervision& how, Tree& tree)
  : m_command(command), m_how(how), m_tree(tree),
    m_group(how.external != nullptr ? Group(how.external->group()) : Group()), m_witness(m_group)
{
  tree.overlook(m_witness);
}

void SignalRelay::begin()
{
  if (m_how.external == nullptr) { return pass_on_what_came_before(); }
  m_witness.make_in_group();
  report_witnesses({});
}

// A key that was pressed before there was a command has reached us alone. In the moment after, the command can get it
// twice, but hardly: it still has it blocked.
void SignalRelay::pass_on_what_came_before()
{
  static constexpr sys::SignalSet k_ending{SIGTERM, SIGINT, SIGHUP, SIGQUIT};
  for (auto signal = sys::wait_signal(k_ending, nanoseconds(0)); signal && *signal;
       signal = sys::wait_signal(k_ending, nanoseconds(0))) {
    if (!is_from_terminal(**signal)) {
      take(**signal);
    } else if (!is_ignored((*signal)->number)) {
      m_key = (*signal)->number;
      m_witness.disregard(m_key);
      pass_on(m_key);
    }
  }
}

void SignalRelay::take(const sys::Signal& signal)
{
  if (!m_command.has_ended && is_from_terminal(signal)) { m_key = signal.number; }
  const bool is_meant = m_command.has_ended || is_for_command(signal, m_command.pid, m_group);
  // Which processes the kernel has signalled is known.
  if (!is_meant || is_from_terminal(signal)) { m_witness.disregard(signal.number); }
  if (!is_meant) { return; }
  if (is_from_terminal(signal)) { return deliver(signal, {}); }
  if (const auto reach = m_witness.ask(signal)) { deliver(signal, *reach); }
}

void SignalRelay::continue_command()
{
  m_witness.disregard(SIGCONT);
  pass_on(SIGCONT);
}

void SignalRelay::work()
{
  const auto before = m_witness.processes();
  while (const auto verdict = m_witness.work(m_command.has_ended ? 0 : m_command.pid)) {
    deliver(verdict->signal, verdict->reach);
  }
  if (m_how.external != nullptr) { report_witnesses(before); }
}

void SignalRelay::report_witnesses(const std::array<pid_t, 2>& before)
{
  const auto now = m_witness.processes();
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (now.at(i) != before.at(i) && now.at(i) != 0) { m_how.external->witness_made(now.at(i)); }
  }
}

void SignalRelay::deliver(const sys::Signal& signal, const Reach& reach)
{
  if (m_command.has_ended) { return pass_to_rest(signal, reach); }
  if (!has_reached(reach, m_command.pid, m_group)) { pass_on(signal.number); }
}

void SignalRelay::pass_on(int signal)
{
  if (signal == SIGCONT) { m_command.is_stopped = false; }
  const auto sent = sys::kill(m_command.pid, signal);
  if (sent || sent.error().code != EPERM || std::exchange(m_has_reported_refusal, true)) { return; }
  const auto command = sys::process_status(m_command.pid);
  if (m_how.observer != nullptr && command) { m_how.observer->cannot_pass_on(signal, {*command}); }
}

// The command has ended, its daemons hold the lock on: signals are for them now.
void SignalRelay::pass_to_rest(const sys::Signal& signal, const Reach& reach)
{
  const auto members = m_tree.members();
  if (!members) { return; }
  for (const auto& member : *members) {
    if (!is_for_command(signal, member.pid, m_group) || has_reached(reach, member.pid, m_group)) { continue; }
    (void)send(member, signal.number);
  }
}

} // namespace lockrun::child
