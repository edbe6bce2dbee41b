#include "flock/run.hpp"

#include "flock/options.hpp"
#include "lock/hold.hpp"
#include "lock/lock_file.hpp"
#include "lock/place.hpp"
#include "startup/standard_descriptors.hpp"
#include "sys/clock.hpp"
#include "sys/process.hpp"
#include "sys/program.hpp"
#include "sys/signal.hpp"

#include <lockrun/lock.hpp>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sysexits.h>

namespace lockrun::flock {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

// 128 + N is the shell's word for "ended by signal N".
constexpr int k_signalled = 128;
constexpr int k_write_error = EXIT_FAILURE;

// The lock file has the first free number from here on, as it has in flock(1).
constexpr int k_first_descriptor = 3;

// --- The lock -------------------------------------------------------------------------------------------------------

int status_of_open_error(int code)
{
  switch (code) {
  case ENOMEM:
  case EMFILE:
  case ENFILE:
    return EX_OSERR;
  case EROFS:
  case ENOSPC:
    return EX_CANTCREAT;
  default:
    return EX_NOINPUT;
  }
}

std::string name_of(const Call& call)
{
  return call.request.fd ? std::to_string(*call.request.fd) : call.lock;
}

int tell_open_error(const Call& call, int code)
{
  return fail_with_code(status_of_open_error(code), "cannot open lock file " + call.lock, code);
}

int tell_lock_error(const Call& call, int code)
{
  return fail_with_code(code == ENOLCK || code == ENOMEM ? EX_OSERR : EX_DATAERR, name_of(call), code);
}

int tell_wrong_type(const Call& call, int code)
{
  // A directory cannot be opened for writing, so it gets no exclusive lock of fcntl(2).
  if (code == EISDIR) { return tell_lock_error(call, code); }
  const std::string words = "cannot open lock file " + call.lock + ": Neither a file, a directory nor a device";
  return fail(EX_NOINPUT, words.c_str());
}

int tell_harmful_device(const Call& call)
{
  const std::string words =
    "cannot open lock file " + call.lock + ": Opening a watchdog starts its countdown, and closing a tape rewinds it";
  return fail(EX_NOINPUT, words.c_str());
}

int tell(const Error& error, const Call& call)
{
  const int code = error.cause.code;
  switch (error.reason) {
  case Reason::busy:
    return call.verbose ? fail(call.conflict_exit_code, "failed to get lock") : call.conflict_exit_code;
  case Reason::timed_out:
    return call.verbose ? fail(call.conflict_exit_code, "timeout while waiting to get lock") : call.conflict_exit_code;
  case Reason::wrong_type:
    return tell_wrong_type(call, code);
  case Reason::harmful_device:
    return tell_harmful_device(call);
  case Reason::open_failed:
    return call.request.fd ? tell_lock_error(call, code) : tell_open_error(call, code);
  case Reason::start_failed:
    return fail_with_code(EX_OSERR, "cannot set up timer", code);
  default:
    return tell_lock_error(call, code);
  }
}

// Standard output was buffered: only now does it turn out whether it could be written. That nobody reads it, or that it
// was closed from the start, is no failure. On standard error there is one only if there was something to say.
int flush_output(int status)
{
  if (std::fflush(stdout) != 0 && errno != EPIPE && errno != EBADF) {
    return fail_with_code(k_write_error, "write error", errno);
  }
  return std::ferror(stderr) != 0 ? k_write_error : status;
}

// For a time limit where the kernel does not let go of who waits (an uninterruptible file system).
class WayOut final : public WaitObserver {
public:
  explicit WayOut(const Call& call) : m_call(call) {}
  bool talks() const override { return false; } // there is nothing to see
  nanoseconds look(nanoseconds) override { return std::chrono::hours(24); }
  void stuck(const Error& reason) override { sys::exit_now(flush_output(tell(reason, m_call))); }
  void end_now(const Error&) override { sys::exit_now(m_call.conflict_exit_code); }

private:
  const Call& m_call;
};

Result<Lock, Error> take_lock(const Call& call)
{
  WayOut way_out(call);
  WaitPlan plan;
  if (call.request.patience) { plan.observer = &way_out; }
  const bool is_timed = call.request.patience && *call.request.patience != nanoseconds(0);
  if (!is_timed) { return acquire(call.request, plan); }
  // There the clock is an alarm, so one from elsewhere ends neither the wait nor the process.
  const auto before = sys::set_disposition(SIGALRM, sys::Disposition::ignored);
  auto lock = acquire(call.request, plan);
  if (before) { (void)sys::set_disposition(SIGALRM, *before); }
  return lock;
}

Result<Lock, Error> open_only(const LockRequest& request)
{
  const WaitPlan plan;
  auto file = open_lock_file(request, Access::read, Patience{plan, nanoseconds(0), {}});
  if (!file) { return tl::unexpected(file.error()); }
  std::vector<Hold> holds;
  holds.push_back(Hold{std::move(file->fd), request.mode, request.api, request.range, request.path});
  return Lock(std::move(holds));
}

// A lock file that was opened just now has no lock to free, but it is made, and the command inherits it.
Result<Lock, Error> free_lock(const LockRequest& request)
{
  if (!request.fd) { return open_only(request); }
  const auto freed = unlock(request);
  if (!freed) { return tl::unexpected(freed.error()); }
  return Lock({});
}

int refuse_limit(const Call& call)
{
  if (!call.request.fd) {
    const auto file = open_only(call.request);
    if (!file) { return tell(file.error(), call); }
  }
  return fail_with_code(EX_OSERR, "cannot set up timer", EINVAL);
}

void tell_duration(nanoseconds duration)
{
  const auto whole = std::chrono::duration_cast<seconds>(duration);
  const auto rest = std::chrono::duration_cast<microseconds>(duration - whole);
  std::printf("flock: getting lock took %lld.%06lld seconds\n", static_cast<long long>(whole.count()),
    static_cast<long long>(rest.count()));
}

// --- The command ----------------------------------------------------------------------------------------------------

int tell_start_error(const char* file, const SysError& cause)
{
  if (std::string_view(cause.call) == "clone" || std::string_view(cause.call) == "mmap") {
    return fail_with_code(EX_OSERR, "fork failed", cause.code);
  }
  return fail_with_code(
    cause.code == ENOMEM ? EX_OSERR : EX_UNAVAILABLE, std::string("failed to execute ") + file, cause.code);
}

int wait_for(const sys::Launch& child, const char* file)
{
  const auto change = sys::wait_child(child.pid(), WEXITED);
  if (!change) { return fail_with_code(EXIT_FAILURE, "waitpid failed", change.error().code); }
  if (const auto failure = child.failure()) {
    const int status = tell_start_error(file, *failure);
    // There the child says it, and what is lost of that does not count.
    if (status == EX_UNAVAILABLE) { std::clearerr(stderr); }
    return status;
  }
  const bool exited = (*change)->kind == sys::ChildChange::Kind::exited;
  return exited ? (*change)->value : k_signalled + (*change)->value;
}

// The command finds the signals as we found them, except that SIGCHLD is never ignored: its status would be lost.
int run(const Call& call, const Lock& lock)
{
  std::vector<const sys::Descriptor*> inherited;
  if (!call.request.fd && !call.closes) {
    for (const Hold& hold : lock.holds()) { inherited.push_back(&hold.fd); }
  }
  if (call.request.fd && call.closes) { const sys::Descriptor closed_here(*call.request.fd); } // the lock has a copy
  (void)sys::set_disposition(SIGCHLD, sys::Disposition::standard);
  sys::Program program{call.command.front(), call.command.data(), sys::block_signals({}), false, inherited};
  program.lowest_inherited = k_first_descriptor; // scripts name it: flock -s LOCK -c 'flock -x 3'
  // What --verbose said is lost unless it went to a terminal: it is still in the buffer. As in flock(1).
  if (call.becomes_command) { sys::exit_now(tell_start_error(program.file, sys::execute(program))); }
  const auto child = sys::start(program);
  return child ? wait_for(*child, program.file) : tell_start_error(program.file, child.error());
}

int carry_out(const Call& call)
{
  if (!call.request.fd) {
    if (const auto filled = cli::fill_standard_descriptors(); !filled) {
      return tell_open_error(call, filled.error().code);
    }
  }
  if (call.limit && !call.limit->is_possible()) { return refuse_limit(call); }
  const nanoseconds began = call.verbose ? sys::steady_now() : nanoseconds(0);
  const auto lock = call.unlocks ? free_lock(call.request) : take_lock(call);
  if (!lock) { return tell(lock.error(), call); }
  if (call.verbose) { tell_duration(sys::steady_now() - began); }
  if (call.command.empty()) { return EX_OK; }
  if (call.verbose) { std::printf("flock: executing %s\n", call.command.front()); }
  return run(call, *lock);
}

} // namespace

bool is_called_as_flock(const char* argv0)
{
  if (argv0 == nullptr) { return false; }
  const std::string_view path(argv0);
  return path.substr(path.rfind('/') + 1) == "flock";
}

int run_as_flock(int argc, char** argv)
{
  const auto call = read_command_line(argc, argv);
  return flush_output(call ? carry_out(*call) : call.error());
}

} // namespace lockrun::flock
