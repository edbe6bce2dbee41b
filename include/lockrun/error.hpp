#pragma once

#include <string>
#include <vector>

#include <sys/types.h>
#include <tl/expected.hpp>

namespace lockrun {

// What the kernel said, and about which call. Paths and advice are added by those who know them.
struct SysError {
  const char* call;
  int code;
};

template <class T, class E = SysError>
using Result = tl::expected<T, E>;

// Why there is no lock, or why the command did not run. Words and exit statuses are the program's business.
enum class Reason {
  busy,             // somebody else holds the lock, and we were not to wait
  too_many_waiters, // as many wait for it as may, and we were not to join them
  timed_out,        // it was not ours within the time limit
  deadlock,         // we wait in a circle; see parties, ourselves first
  nested,           // an ancestor of ours, or we ourselves, hold it: waiting would never end; see parties
  interrupted,      // a signal ended the wait; cause.code is the signal's number
  open_failed,      // the lock file could not be opened or created
  missing,          // there is no such lock file (or none to write to), and we were not to create one
  wrong_type,       // neither a file, a directory nor a device; cause.code is 0
  harmful_device,   // opening it starts a watchdog, or closing it rewinds a tape
  unsafe_place,     // the directory of a name: is not ours, or not private; target is the directory
  lock_failed,      // the kernel refused to lock
  not_removed,      // the lock is free, but its file could not be removed
  bad_descriptor,   // the descriptor that the caller named is not open, or not open in the way the lock needs
  called_off,       // a signal came before the command was started; cause.code is the signal's number
  start_failed,     // no process could be made for the command
  not_found,        // the command does not exist
  not_executable,   // the command exists, but cannot be executed
  unknown_ending,   // the command has ended, but the kernel did not say how
  lost,             // the lock was ours, but not for long enough to start the command
};

// A process that a failure is about.
struct Party {
  pid_t pid = 0;
  std::string command;   // its command line, words separated by NUL; may be empty
  std::string waits_for; // the path of the lock that it waits for, if it is about waiting
};

// One failure, with all the facts that a message needs.
struct Error {
  Reason reason;
  std::string target; // the lock's or the command's name, as the caller wrote it
  SysError cause{};   // the kernel's answer; {nullptr, 0} where there was none
  std::vector<Party> parties{};
  // The caller's descriptor had a shared flock, and has lost it: the kernel gives it up before it tries to make it
  // exclusive (flock(2)).
  bool has_lost_shared = false;
};

} // namespace lockrun
