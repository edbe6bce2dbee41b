#pragma once

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace lockrun {

enum class LockState {
  free,
  shared,
  exclusive,
  held,    // by somebody who cannot be seen from here
  unknown, // it cannot be seen, and it cannot be asked
};

// Whose lock it is for the kernel: of an open file description (flock(2), F_OFD_SETLK) or of a process (F_SETLK); or of
// an engine, beyond this machine.
enum class LockApi { flock, ofd, posix, engine };

// A process that has the lock or waits for it. What is not known is none or empty.
struct LockUser {
  pid_t pid = 0; // 0: the kernel does not tell it
  LockApi api = LockApi::flock;
  std::optional<uid_t> user{};
  std::string host{};                              // of an engine's lock
  std::string user_name{};                         // on that host
  std::string command{};                           // its command line, words separated by NUL
  std::optional<std::chrono::nanoseconds> since{}; // on the wall clock, since 1970
};

struct Holder : LockUser {
  // The number in /proc/locks is that of the process that took the lock. It may have ended since, and left the lock to
  // those who inherited the descriptor, and its number to a stranger.
  enum class Evidence {
    descriptor, // a descriptor of this process has the lock
    taker,      // it took the lock, but this user may not look into it: `since` would be a guess
    gone,       // it took the lock and has it no more; who has it now cannot be seen
  };
  enum class SinceKind {
    acquired, // lockrun noted the moment at which it got the lock
    at_most,  // that is when the process started
  };
  Evidence evidence = Evidence::descriptor;
  Mode mode = Mode::exclusive;
  SinceKind since_kind = SinceKind::at_most;
  std::optional<unsigned> slot{}; // of --slots
  std::string token{};            // of an engine's lock
};

struct Waiter : LockUser {    // `since` is its start
  std::size_t position = 0;   // from 1: first the kernel's queue, in its order, then that of --fair and --slots
  std::optional<Mode> mode{}; // none in the queue of --fair and --slots
};

struct LockStatus {
  LockState state = LockState::unknown;
  bool is_missing = false; // there is no such file, so nobody holds it
  std::vector<Holder> holders{};
  std::size_t more_holders = 0; // of whom nothing but their number is known
  std::vector<Waiter> waiters{};
};

// Who holds what `request` asks for, and who waits for it: read from the kernel, nothing is opened, nothing blocks, and
// with request.fd no file server is asked. For messages: no more than three holders are told, and of waiters pid and
// position only. Never says `free`: the state is `unknown` when nobody is seen.
LockStatus look(const LockRequest& request);

// The whole truth about the lock at request.path or request.fd: the locks of every kind. When nobody is seen to hold
// it, asks the kernel: for flock by trying, and having, the lock for an instant. Never makes the file. Reasons:
// open_failed, bad_descriptor, wrong_type.
Result<LockStatus, Error> status(const LockRequest& request);

} // namespace lockrun
