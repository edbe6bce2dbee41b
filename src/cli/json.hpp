#pragma once

#include <lockrun/status.hpp>

#include <chrono>
#include <optional>
#include <string>

#include <sys/types.h>

namespace lockrun::cli {

// What programs read: one JSON object a line, which ends with a newline. The manual has the schemas.

// What --status --json says of one lock.
std::string status_line(const std::string& lock, const LockStatus& status);

// What every event of --events begins with.
struct EventHead {
  std::chrono::nanoseconds time; // on the wall clock, since 1970
  std::string lock;              // as the caller wrote it
  pid_t pid;                     // ours
  std::string command;           // shortened
};

enum class CallOutcome { ran, busy, timed_out, deadlock, overtime, lost, interrupted, exec_failed, failed };

// How a call ended.
struct Finish {
  CallOutcome outcome = CallOutcome::ran;
  int exit_code = 0;
  int signal = 0; // that ended the command or the wait; 0: none
  std::chrono::nanoseconds waited{};
  std::optional<std::chrono::nanoseconds> held{}; // none: we never had it, or it is kept when we end
  const Holder* holder = nullptr;                 // who had it when it was not ours; null: nobody was seen
  std::string error{};                            // empty: nothing failed
};

std::string waiting_line(const EventHead& head, const std::string& waits_for);
std::string acquired_line(const EventHead& head, std::chrono::nanoseconds waited, Mode mode, std::optional<int> slot,
  const std::string& token = {});
std::string overtime_line(const EventHead& head, std::chrono::nanoseconds limit, int signal);
std::string lost_line(const EventHead& head, const std::string& reason);
std::string finished_line(const EventHead& head, const Finish& finish);

} // namespace lockrun::cli
