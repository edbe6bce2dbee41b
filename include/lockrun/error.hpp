#pragma once

#include <memory>
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

  // Of locks beyond this machine, which an engine program holds for us.
  engine_missing,     // there is no such program; detail is its name, hint says where we looked
  engine_not_started, // it could not be executed; detail is its path
  engine_unable,      // it cannot do what was asked for; detail is the capability, holder the program
  engine_refused,     // it says so itself: status is an exit status, detail a sentence
  engine_silent,      // detail, the program, said nothing for too long
  engine_ended,       // it ended without an answer
  engine_nonsense,    // it does not speak our language; holder is what it sends
};

struct LockStatus; // <lockrun/status.hpp>

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
  std::string detail{};                     // engine_...: see there
  std::string holder{};                     // of an engine's lock: who has it, in words
  std::string hint{};                       // of an engine: what can be done about it
  int status = 0;                           // engine_refused
  std::shared_ptr<const LockStatus> seen{}; // the holders, as they were seen last; none: nothing is known of them
};

} // namespace lockrun
