#pragma once

#include "backends/engine.hpp"
#include "child/supervise.hpp"
#include "cli/events.hpp"
#include "cli/options.hpp"

#include <lockrun/error.hpp>
#include <lockrun/status.hpp>

#include <chrono>
#include <string>

namespace lockrun::cli {

// All our words: every line that lockrun writes comes from here, to standard error, one fact a line.

// A failure, with a hint where we truly know one. `seen` are the holders; null: nothing is known of them.
void report(const Error& error, const Options& options, const LockStatus* seen = nullptr);

// LOCK is a file although it looks like a descriptor that is open.
void report_number(const Options& options);

// A command line that means nothing.
void report(const UsageError& error);

// The lock could not be freed at the end; it ends with the processes that share it.
void report_release_failure(const Error& error, const Options& options);

// Files cannot be opened at all: fewer than three, if any, may be open. Returns the exit status.
int report_no_files(const SysError& error, const Options& options);

// An event could not be written, which changes nothing else.
void report_events_failure(const SysError& error, const Options& options);

// With --verbose: the lock is ours; it is free again.
void report_acquired(std::chrono::nanoseconds waited, const Options& options);
void report_released(std::chrono::nanoseconds held, const Options& options);

// To the system's log, after the tree was ended because of the lock: the log may block, and must not keep the tree from
// being ended.
void log_ending(const child::Ending& ending, const Options& options);

// What the command started and left running when it ended; nothing if that is nothing.
void report_left_behind(const std::vector<sys::ProcessStatus>& members);

// A lock of an engine that is not ours. `holder` of a nested one is looked up.
void report(const backends::EngineFailure& failure, const Options& options);

// What happens to such a lock while we wait for it or hold it.
void report_waiting(const std::string& holder, std::optional<std::int64_t> position, const Options& options);
void report_trouble(const std::string& text, const Options& options);
void report_loss(const std::string& reason, const Options& options);

// It turned out at the end that the lock had been lost.
void report_late_loss(const Options& options);

// The command has ended, and the engine did not say that the lock is free: that takes `ttl` at most.
void report_not_released(std::chrono::nanoseconds ttl, const Options& options);

// Tells what happens to the command's tree while it runs.
class SupervisionReport final : public child::Observer {
public:
  SupervisionReport(const Options& options, EventLog& events) : m_options(options), m_events(events) {}
  void overtime(const child::TimeLimit& limit) override;
  void cannot_end(const std::vector<sys::ProcessStatus>& members) override;
  void cannot_pass_on(int signal, const std::vector<sys::ProcessStatus>& command) override;
  void lease_ran_out() override;

private:
  const Options& m_options;
  EventLog& m_events;
};

} // namespace lockrun::cli
