#pragma once

#include "child/supervise.hpp"
#include "cli/events.hpp"
#include "options/call.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace lockrun::cli {

// What happens to one call, for people (standard error, --syslog) and for programs (--events). The moments are here;
// the words of failures are in failure_words, and the line that a terminal shows of a wait is in progress.
class Reporter final : public child::Observer {
public:
  // The call begins.
  explicit Reporter(const Call& call) : m_call(call), m_events(call) {}

  // Opens what --events names. To be called before any lock file is open, or a descriptor that the caller named but did
  // not open could be that one.
  void begin();

  // The call is about to queue; again for each further lock or file.
  void waiting(const LockRequest& request) { m_events.waiting(request); }
  // An engine's server cannot be reached, which may pass.
  void trouble(const std::string& text);

  // The lock is ours. Not every lock has a slot or a token.
  void acquired(std::optional<int> slot, std::string_view token = {});
  // The lock of an engine is not ours any more. Said once, however often it is called.
  void lost(const std::string& reason);
  // It was not renewed in time, and the command is being ended. In the process of the supervisor or of its copy.
  void lease_ran_out();
  // It turned out at the end that it had been lost, and the command may not have been alone.
  void lost_late();

  // We keep it no longer. `is_free`: nobody else has to wait for it any more.
  void released(bool is_free = true);
  // It stays locked until the last process that inherited it ends; or is free, and its file could not be removed.
  void not_released(const Error& error);
  // The engine did not say that the lock is free: that takes `ttl` at most.
  void not_released(std::chrono::nanoseconds ttl);

  // The end of the call. Each returns the exit status.
  int failed(const Error& error);
  int ended(const child::Ending& ending);
  int done(); // the lock is had or freed, and there is no command

  // As child::Observer; in the process of the supervisor or of its copy.
  void overtime(const child::TimeLimit& limit) override;
  void cannot_end(const std::vector<sys::ProcessStatus>& members) override;
  void cannot_pass_on(int signal, const std::vector<sys::ProcessStatus>& command) override;

private:
  bool is_verbose() const { return m_call.reporting.verbosity == Verbosity::verbose; }
  void log_ending(const child::Ending& ending) const;

  const Call& m_call;
  EventLog m_events;
  bool m_is_lost = false;
  std::chrono::nanoseconds m_began{}; // on the steady clock, as the next; only with --verbose
  std::chrono::nanoseconds m_acquired{};
};

// A failure, as far as people want to hear of it.
void report(const Error& error, const LockRequest& request, const Reporting& reporting);

// Files cannot be opened at all: fewer than three, if any, may be open. Returns the exit status.
int report_no_files(const SysError& error, const Reporting& reporting);

// LOCK is a file although it looks like a descriptor that is open.
void report_number(const Call& call);

} // namespace lockrun::cli
