#include "cli/exit_code.hpp"

#include <cerrno>

namespace lockrun::cli {
namespace {

constexpr int k_first_of_sysexits = k_usage;
constexpr int k_last_of_sysexits = 78;

// What the kernel's answer means, whichever call gave it.
int exit_code_for_errno(int code)
{
  switch (code) {
  case EDEADLK:
    return k_busy;
  case ENOENT:
  case ENOTDIR:
  case EROFS:
  case ENOSPC:
  case EDQUOT:
  case ENAMETOOLONG:
    return k_cannot_create;
  case EACCES:
  case EPERM:
  case ELOOP:
    return k_no_permission;
  case EMFILE:
  case ENFILE:
  case ENOMEM:
    return k_os_error;
  case EAGAIN: // a lease on the file; "busy" has names of its own
  case EBADF:
  case ENOLCK:
  case EIO:
  case ESTALE:
  case ETIMEDOUT:
    return k_io_error;
  case ENOSYS:
  case EOPNOTSUPP:
  case EINVAL:
    return k_unavailable;
  default:
    return k_software;
  }
}

} // namespace

int exit_code_for(const Error& error, int conflict)
{
  switch (error.reason) {
  case Reason::busy:
  case Reason::too_many_waiters:
  case Reason::timed_out:
    return conflict;
  case Reason::interrupted:
  case Reason::called_off:
    return k_signalled + error.cause.code;
  case Reason::deadlock:
  case Reason::nested:
    return k_busy;
  case Reason::missing:
    return k_no_input;
  case Reason::unsafe_place:
  case Reason::wrong_type:
  case Reason::harmful_device:
    return k_no_permission;
  case Reason::bad_descriptor:
    return k_bad_data;
  case Reason::not_found:
    return k_not_found;
  case Reason::not_executable:
    return k_cannot_execute;
  case Reason::lost:
    return k_lost;
  case Reason::unknown_ending:
    return k_os_error;
  case Reason::start_failed:
    return error.cause.code == EAGAIN ? k_os_error : exit_code_for_errno(error.cause.code);
  case Reason::engine_missing:
    return k_unavailable;
  case Reason::engine_unable:
    return k_usage;
  case Reason::engine_silent:
    return k_io_error;
  case Reason::engine_refused:
    return error.status >= k_first_of_sysexits && error.status <= k_last_of_sysexits ? error.status : k_software;
  case Reason::engine_ended:
  case Reason::engine_nonsense:
    return k_software;
  case Reason::engine_not_started:
  case Reason::open_failed:
  case Reason::lock_failed:
  case Reason::not_removed:
    break;
  }
  return exit_code_for_errno(error.cause.code);
}

int exit_code_for(const child::Ending& ending)
{
  using How = child::Ending::How;
  switch (ending.how) {
  case How::exited:
    return ending.value;
  case How::killed:
    return k_signalled + ending.value;
  case How::lost:
    return k_lost;
  case How::overtime:
    break;
  }
  return ending.needed_kill ? k_overtime_killed : k_overtime;
}

} // namespace lockrun::cli
