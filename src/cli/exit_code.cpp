#include "cli/exit_code.hpp"

#include <cerrno>

namespace lockrun::cli {
namespace {

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
    return k_signalled + error.cause.code;
  case Reason::deadlock:
  case Reason::nested:
    return k_busy;
  case Reason::missing:
    return k_no_input;
  case Reason::unsafe_place:
  case Reason::wrong_type:
    return k_no_permission;
  case Reason::bad_descriptor:
    return k_bad_data;
  case Reason::not_found:
    return k_not_found;
  case Reason::not_executable:
    return k_cannot_execute;
  case Reason::start_failed:
    return error.cause.code == EAGAIN ? k_os_error : exit_code_for_errno(error.cause.code);
  case Reason::open_failed:
  case Reason::lock_failed:
    break;
  }
  return exit_code_for_errno(error.cause.code);
}

} // namespace lockrun::cli
