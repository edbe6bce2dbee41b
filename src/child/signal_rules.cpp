#include "child/signal_rules.hpp"

#include "child/control_group.hpp"
#include "sys/file.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"
#include "sys/terminal.hpp"

#include <string>

#include <fcntl.h>

namespace lockrun::child {
namespace {

// open(2) of /dev/tty: ENXIO without a controlling terminal.
bool has_terminal()
{
  return sys::open("/dev/tty", O_RDONLY | O_NONBLOCK).has_value();
}

} // namespace

bool shares_our_group(pid_t process, Group group)
{
  const auto theirs = sys::process_group(process);
  const auto ours = group ? Result<pid_t>(*group) : sys::process_group(0);
  return theirs && ours && *theirs == *ours;
}

bool shares_our_control_group(pid_t process)
{
  if (!sys::check_proc()) { return true; } // the numbers there are not ours
  const auto theirs = sys::read_file(("/proc/" + std::to_string(process) + "/cgroup").c_str());
  const auto ours = sys::read_file("/proc/self/cgroup");
  // A signal to the processes of ours is meant for those of the groups below it, too.
  return !theirs || !ours || *theirs == *ours || is_in_made_group(*theirs, *ours);
}

bool has_reached(const Reach& reach, pid_t process, Group group)
{
  const bool in_group = shares_our_group(process, group);
  if (in_group && reach.only_our_group) { return true; }
  return (reach.our_control_group || (in_group && reach.our_group)) && shares_our_control_group(process);
}

bool is_ignored(int signal)
{
  return sys::disposition(signal).value_or(sys::Disposition::standard) == sys::Disposition::ignored;
}

bool is_from_terminal(const sys::Signal& signal)
{
  return signal.origin > 0; // sigaction(2): SI_USER and its like are zero or less
}

bool is_hangup_for_leader(const sys::Signal& signal)
{
  return signal.number == SIGHUP && is_from_terminal(signal) && sys::leads_session();
}

bool is_for_command(const sys::Signal& signal, pid_t command, Group group)
{
  if (is_ignored(signal.number)) { return false; }
  const bool by_kernel = is_from_terminal(signal);
  if (!by_kernel && signal.sender == command) { return false; }
  if (!group && is_hangup_for_leader(signal)) { return true; }
  if (by_kernel || signal.number == SIGCONT) { return !shares_our_group(command, group); }
  return true;
}

bool stop_beside(pid_t command, int signal)
{
  if (!shares_our_group(command) || !has_terminal()) { return false; }
  if (signal == SIGSTOP && sys::is_in_background()) { return false; }
  // By the same signal, which says why to the one that waits for us: another lockrun, too, stops with its command.
  const bool by_default = sys::disposition(signal).value_or(sys::Disposition::ignored) == sys::Disposition::standard;
  (void)sys::kill(sys::process_id(), by_default ? signal : SIGSTOP);
  (void)sys::set_signal_mask(sys::unblock_signals({signal})); // returns when a process continues us
  return true;
}

int signal_against_start(const sys::SignalSet& mask)
{
  sys::SignalSet ending;
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) {
    if (!mask.contains(number)) { ending.add(number); }
  }
  for (;;) {
    const auto signal = sys::wait_signal(ending, std::chrono::nanoseconds(0));
    if (!signal || !*signal) { return 0; }
    if (!is_ignored((*signal)->number)) { return (*signal)->number; }
  }
}

} // namespace lockrun::child
