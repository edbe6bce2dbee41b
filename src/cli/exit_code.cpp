#include "cli/exit_code.hpp"

#include "cli/reason_table.hpp"

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
  const int code = error.cause.code;
  const int exit_code = row_of(error.reason).exit_code;
  switch (exit_code) {
  case ReasonRow::k_conflict:
    return conflict;
  case ReasonRow::k_signal:
    return k_signalled + code;
  case ReasonRow::k_engines:
    return error.status >= k_first_of_sysexits && error.status <= k_last_of_sysexits ? error.status : k_software;
  case ReasonRow::k_errno:
    return error.reason == Reason::start_failed && code == EAGAIN ? k_os_error : exit_code_for_errno(code);
  default:
    return exit_code;
  }
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
