#pragma once

#include <lockrun/request.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <csignal>

namespace lockrun::cli {

// What a command line asks for. Each function takes the part that it needs.

enum class Action { run, lock_descriptor, unlock_descriptor, status, probe, help, version };

// How long the lock is held; section "How long it is held" of the manual.
enum class Lifetime {
  command, // until the command exits; the command inherits the descriptor
  tree,    // until its last descendant has exited; inherits too
  wrapper, // until lockrun ends; the command does not inherit
  exec,    // lockrun becomes the command; until the last process that inherited it closes it
};

// How the command runs, and how it is ended.
struct CommandRules {
  Lifetime lifetime = Lifetime::command;
  std::optional<std::chrono::nanoseconds> max_hold; // the tree is ended after that
  std::chrono::nanoseconds kill_after = std::chrono::seconds(10);
  bool asks_for_grace = false; // kill_after was given, not just left as it is
  int end_signal = SIGTERM;    // what it is ended with at first
};

enum class Verbosity { quiet, normal, verbose };

// What people and programs hear of a call.
struct Reporting {
  Verbosity verbosity = Verbosity::normal;
  std::optional<std::chrono::nanoseconds> progress; // say each time that we still wait
  std::string events;                               // a path or "fd:N" for programs to read; empty: none
  bool syslog = false;                              // tell the system's log, too
};

// What others see of the command on an engine's server.
enum class Published { command, name };

// A lock beyond this machine. LockRequest::path has its URL without the password.
struct EngineLock {
  std::string url;                 // with its password; empty: the lock is this machine's
  std::chrono::nanoseconds ttl{0}; // what the URL says about that; zero: nothing
  Published published = Published::command;
};

// A command to be run under a lock, or a descriptor to be locked or unlocked.
struct Call {
  Action action = Action::run;
  LockRequest request;
  EngineLock engine;
  std::vector<char*> command; // its argv, with a null pointer at the end; in main's, or a copy of what is hidden there
  CommandRules rules;
  Reporting reporting;
  int conflict_exit_code = 75;
};

// Locks to be looked at: for --status, and one for --probe.
struct Question {
  struct Lock {
    LockRequest request;
    std::string engine_url; // as in EngineLock
  };
  std::vector<Lock> locks;
  bool json = false;
};

} // namespace lockrun::cli
