#include "cli/reporter.hpp"

#include "cli/exit_code.hpp"
#include "cli/failure_words.hpp"
#include "cli/hints.hpp"
#include "cli/lines.hpp"
#include "cli/reason_table.hpp"
#include "sys/clock.hpp"
#include "text/duration.hpp"
#include "text/quote.hpp"
#include "text/words.hpp"

#include <lockrun/status.hpp>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace lockrun::cli {
namespace {

using std::chrono::nanoseconds;

// To the system's log as well, if that is wanted.
void announce(const Reporting& reporting, Severity severity, std::string_view text)
{
  if (severity == Severity::failure || reporting.verbosity != Verbosity::quiet) { tell(text); }
  if (reporting.syslog) { log_to_system(severity, text); }
}

// "PID 4312 (rsync), PID 4313 (sleep) and 3 more".
std::string words_of(const std::vector<sys::ProcessStatus>& members)
{
  constexpr std::size_t k_named = 10;
  std::string words;
  for (std::size_t i = 0; i < std::min(members.size(), k_named); ++i) {
    words += fmt::format("{}PID {} ({})", i == 0 ? "" : ", ", members[i].pid, text::escaped(members[i].name));
  }
  if (members.size() > k_named) { words += fmt::format(" and {} more", members.size() - k_named); }
  return words;
}

} // namespace

void Reporter::begin()
{
  m_events.begin();
  if (is_verbose()) { m_began = sys::steady_now(); }
}

void Reporter::trouble(const std::string& text)
{
  if (m_call.reporting.verbosity == Verbosity::quiet) { return; }
  tell_now(fmt::format("trouble with {}: {}, trying again", lock_name(m_call.request), engine_words(text)));
}

void Reporter::acquired(std::optional<int> slot, std::string_view token)
{
  if (is_verbose()) {
    m_acquired = sys::steady_now();
    tell_now(fmt::format("got {} after {}", lock_name(m_call.request), text::duration_text(m_acquired - m_began)));
  }
  m_events.acquired(slot, token);
}

void Reporter::lost(const std::string& reason)
{
  if (!std::exchange(m_is_lost, true)) {
    tell_now(fmt::format(
      "{} is lost: {}; {}", lock_name(m_call.request), engine_words(reason), ending_words(m_call.rules.end_signal)));
  }
  m_events.lost(reason);
}

void Reporter::lost_late()
{
  announce(m_call.reporting, Severity::failure,
    fmt::format("{} was lost before it was released: the command may not have been alone", lock_name(m_call.request)));
  m_events.released();
  m_events.lost("it was lost before it was released");
}

void Reporter::released(bool is_free)
{
  m_events.released();
  if (!is_verbose() || !is_free) { return; }
  const nanoseconds held = sys::steady_now() - m_acquired;
  tell_now(fmt::format("released {} after {}", lock_name(m_call.request), text::duration_text(held)));
}

void Reporter::not_released(const Error& error)
{
  if (error.reason == Reason::not_removed) { return report(error, m_call.request, m_call.reporting); }
  announce(m_call.reporting, Severity::failure,
    fmt::format("cannot unlock {}: {}; it is released when the last process that inherited it ends",
      lock_name(m_call.request), text::errno_words(error.cause.code)));
}

void Reporter::not_released(nanoseconds ttl)
{
  if (m_call.reporting.verbosity == Verbosity::quiet) { return; }
  tell(fmt::format(
    "{} could not be released; it is free in {} at the latest", lock_name(m_call.request), text::duration_text(ttl)));
}

int Reporter::failed(const Error& error)
{
  const int exit_code = exit_code_for(error, m_call.conflict_exit_code);
  report(error, m_call.request, m_call.reporting);
  m_events.finished(error, exit_code);
  return exit_code;
}

int Reporter::ended(const child::Ending& ending)
{
  log_ending(ending);
  if (!ending.left_behind.empty()) {
    tell_now(fmt::format("the command left running: {}", words_of(ending.left_behind)));
  }
  const int exit_code = exit_code_for(ending);
  m_events.finished(ending, exit_code);
  return exit_code;
}

int Reporter::done()
{
  m_events.finished(k_success);
  return k_success;
}

// The log may block, and must not keep the tree from being ended: that is so by now.
void Reporter::log_ending(const child::Ending& ending) const
{
  if (!m_call.reporting.syslog) { return; }
  const auto log = [&](Severity severity, const std::string& what) {
    log_to_system(severity, fmt::format("{} {}: ended {} and all that it started{}", lock_name(m_call.request), what,
                              text::quoted(m_call.command.front()), ending.needed_kill ? ", with SIGKILL" : ""));
  };
  if (ending.how == child::Ending::How::overtime) {
    log(Severity::warning, fmt::format("was held for {}, the limit", text::duration_text(*m_call.rules.max_hold)));
  }
  if (ending.how == child::Ending::How::lost) { log(Severity::failure, "was lost"); }
}

void Reporter::overtime(const child::TimeLimit& limit)
{
  tell_now(fmt::format("{} has been held for {}, the limit: {}", lock_name(m_call.request),
    text::duration_text(*m_call.rules.max_hold), ending_words(limit.signal)));
  m_events.overtime(limit);
}

void Reporter::cannot_end(const std::vector<sys::ProcessStatus>& members)
{
  const std::string name = lock_name(m_call.request);
  const std::string consequence =
    m_call.engine.url.empty() ? fmt::format("keeping {} locked", name) : fmt::format("not releasing {}", name);
  const std::string text = fmt::format("cannot end {}; {} until they have ended", words_of(members), consequence);
  tell_now(text);
  if (m_call.reporting.syslog) { log_to_system(Severity::failure, text); }
}

void Reporter::cannot_pass_on(int signal, const std::vector<sys::ProcessStatus>& command)
{
  tell_now(
    fmt::format("cannot pass {} on to {}: {}", text::signal_name(signal), words_of(command), text::errno_words(EPERM)));
}

void Reporter::lease_ran_out()
{
  m_events.lost("it could not be renewed in time");
  tell_now(fmt::format(
    "{} could not be renewed in time: {}", lock_name(m_call.request), ending_words(m_call.rules.end_signal)));
}

void report(const Error& error, const LockRequest& request, const Reporting& reporting)
{
  const Severity severity = row_of(error.reason).severity;
  const bool is_told = severity == Severity::failure || reporting.syslog || reporting.verbosity != Verbosity::quiet;
  if (is_told) {
    const FailureWords words = words_of(error, request);
    for (const std::string& fact : words.facts) { announce(reporting, severity, fact); }
    tell_hint(words.hint, reporting.verbosity);
  }
  if (error.has_lost_shared) {
    announce(reporting, Severity::failure,
      fmt::format("{} is not locked any more: the kernel gave up its shared lock to try for the exclusive one",
        lock_name(request)));
  }
}

int report_no_files(const SysError& error, const Reporting& reporting)
{
  const char* const hint = error.code == EMFILE ? "; see 'ulimit -n'" : "";
  announce(
    reporting, Severity::failure, fmt::format("cannot open any file: {}{}", text::errno_words(error.code), hint));
  return exit_code_for({Reason::open_failed, {}, error}, k_busy);
}

void report_number(const Call& call)
{
  tell_hint(hint_for_number(call.request), call.reporting.verbosity);
}

} // namespace lockrun::cli
