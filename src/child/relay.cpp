#include "child/relay.hpp"

#include "sys/file.hpp"
#include "sys/process.hpp"

#include <fcntl.h>
#include <sys/wait.h>

namespace lockrun::child {
namespace {

bool shares_our_group(pid_t command)
{
  const auto theirs = sys::process_group(command);
  const auto ours = sys::process_group(0);
  return theirs && ours && *theirs == *ours;
}

// open(2) of /dev/tty: ENXIO without a controlling terminal.
bool has_terminal()
{
  return sys::open("/dev/tty", O_RDONLY | O_NONBLOCK).has_value();
}

} // namespace

bool is_from_terminal(const sys::Signal& signal)
{
  return signal.origin > 0; // sigaction(2): SI_USER and its like are zero or less
}

bool is_told_as_leader(const sys::Signal& signal)
{
  return signal.number == SIGHUP && is_from_terminal(signal) && sys::leads_session();
}

bool is_for_command(const sys::Signal& signal, pid_t command)
{
  // Blocked and ignored: the kernel queues it all the same and leaves it to us to pass over it.
  if (sys::disposition(signal.number).value_or(sys::Disposition::standard) == sys::Disposition::ignored) {
    return false;
  }
  const bool by_kernel = is_from_terminal(signal);
  if (!by_kernel && signal.sender == command) { return false; }
  if (is_told_as_leader(signal)) { return true; }
  if (by_kernel || signal.number == SIGCONT) { return !shares_our_group(command); }
  return true;
}

bool stop_beside(pid_t command)
{
  if (!shares_our_group(command) || !has_terminal()) { return false; }
  (void)sys::kill(sys::process_id(), SIGSTOP); // returns when somebody continues us
  return true;
}

void continue_stopped(pid_t command)
{
  // The shell continues the whole group; then the command runs already and must not get SIGCONT twice.
  const auto change = sys::wait_child(command, WCONTINUED | WNOHANG);
  if (!change || !*change) { (void)sys::kill(command, SIGCONT); }
}

void stop_with(pid_t command)
{
  if (stop_beside(command)) { continue_stopped(command); }
}

} // namespace lockrun::child
