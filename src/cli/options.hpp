#pragma once

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <csignal>

namespace lockrun::cli {

// How long the lock is held; section "How long it is held" of the manual.
enum class Lifetime {
  command, // until the command exits; the command inherits the descriptor
  tree,    // until its last descendant has exited; inherits too
  wrapper, // until lockrun ends; the command does not inherit
  exec,    // lockrun becomes the command; until the last process that inherited it closes it
};

enum class Action { run, lock_descriptor, unlock_descriptor, status, probe, help, version };

// What others see of the command on an engine's server.
enum class Published { command, name };

enum class Verbosity { quiet, normal, verbose };

// Everything that the command line said.
struct Options {
  Action action = Action::run;
  LockRequest request;
  std::vector<char*> command; // its argv, with a null pointer at the end; in main's, or a copy of what is hidden there
  Lifetime lifetime = Lifetime::command;
  std::optional<std::chrono::nanoseconds> max_hold; // the tree is ended after that
  std::chrono::nanoseconds kill_after = std::chrono::seconds(10);
  bool asks_for_grace = false; // kill_after was given, not just left as it is
  int end_signal = SIGTERM;    // what it is ended with at first
  int conflict_exit_code = 75;
  Verbosity verbosity = Verbosity::normal;
  std::string engine_url;          // of a lock beyond this machine, with its password; request.path is without
  std::chrono::nanoseconds ttl{0}; // what it says about that; zero: nothing
  Published published = Published::command;
  std::optional<std::chrono::nanoseconds> progress; // say each time that we still wait
  std::string events;                               // a path or "fd:N" for programs to read; empty: none
  bool syslog = false;                              // tell the system's log, too
  std::vector<LockRequest> asked;                   // what --status is to tell about
  bool json = false;
};

// A command line that means nothing, in words without the "lockrun: " in front; foreign words in it are quoted.
struct UsageError {
  std::string text;
  std::string hint; // may be empty; what to do about it, when that is certain
};

// Reads the command line. `argv` ends with a null pointer and must outlive the options. What it returns is checked:
// there is a command exactly if the action is `run`; there is a path or a descriptor unless it is `help`, `version` or
// `status`.
Result<Options, UsageError> parse_options(int argc, char* const* argv);

// The text of --help: options grouped by topic, and five examples.
std::string help();

} // namespace lockrun::cli
