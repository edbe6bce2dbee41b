#include "cli/events.hpp"

#include "cli/failure_words.hpp"
#include "cli/holder_words.hpp"
#include "cli/lines.hpp"
#include "cli/reason_table.hpp"
#include "sys/clock.hpp"
#include "sys/file.hpp"
#include "sys/process.hpp"
#include "text/quote.hpp"
#include "text/words.hpp"

#include <lockrun/status.hpp>

#include <cerrno>
#include <charconv>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>

namespace lockrun::cli {
namespace {

using std::chrono::nanoseconds;

// For readers that are slow; who does not read at all must not keep us.
constexpr std::chrono::milliseconds k_patience_with_reader{100};

constexpr std::string_view k_descriptor_prefix = "fd:";

Result<sys::Descriptor> open_events(const std::string& place)
{
  if (!place.starts_with(k_descriptor_prefix)) {
    // A FIFO that nobody reads must not keep us.
    return sys::open(place.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0666);
  }
  constexpr int k_above_standard = 3;
  int number = -1;
  (void)std::from_chars(place.data() + k_descriptor_prefix.size(), place.data() + place.size(), number);
  return sys::duplicate(number, k_above_standard);
}

std::string name_of(const LockRequest& request)
{
  return request.fd ? fmt::format("{}", *request.fd) : request.path;
}

std::string words_of(const Error& reason)
{
  if (!reason.holder.empty() && is_conflict(reason.reason)) { return "held by " + plain_command(reason.holder); }
  if (!reason.detail.empty() && !is_conflict(reason.reason)) { return plain_command(reason.detail); }
  switch (reason.reason) {
  case Reason::busy:
  case Reason::timed_out:
    return {}; // the outcome says it
  case Reason::too_many_waiters:
    return "too many wait already";
  case Reason::nested:
    return "an ancestor holds the lock";
  case Reason::deadlock:
    return fmt::format("{} processes wait for one another in a circle", reason.parties.size());
  case Reason::wrong_type:
    return "neither a file, a directory nor a device";
  case Reason::harmful_device:
    return "opening or closing the device acts on it";
  case Reason::interrupted:
  case Reason::called_off:
    return {};
  default:
    break;
  }
  if (reason.cause.code == 0) { return {}; }
  const std::string words = text::errno_words(reason.cause.code);
  return reason.cause.call != nullptr ? fmt::format("{}: {}", reason.cause.call, words) : words;
}

} // namespace

EventLog::EventLog(const Call& call)
  : m_call(call), m_began(call.reporting.events.empty() ? nanoseconds(0) : sys::steady_now())
{}

void EventLog::begin()
{
  if (m_call.reporting.events.empty()) { return; }
  m_pid = sys::process_id();
  auto file = open_events(m_call.reporting.events);
  if (!file) { return complain(file.error()); }
  m_file = std::move(*file);
  m_is_on = true; // if the call ends while this blocks, there is nothing to write to
}

void EventLog::waiting(const LockRequest& request)
{
  if (m_is_on) { write(waiting_line(head(), name_of(request))); }
}

void EventLog::acquired(std::optional<int> slot, std::string_view token)
{
  if (!m_is_on) { return; }
  m_acquired = sys::steady_now();
  write(acquired_line(head(), *m_acquired - m_began, m_call.request.mode, slot, std::string(token)));
}

void EventLog::released()
{
  if (m_is_on) { m_released = sys::steady_now(); }
}

void EventLog::overtime(const child::TimeLimit& limit)
{
  if (m_is_on) { write(overtime_line(head(), *m_call.rules.max_hold, limit.signal)); }
}

void EventLog::finished(const Error& reason, int exit_code)
{
  if (!m_is_on) { return; }
  Finish finish;
  finish.outcome = row_of(reason.reason).outcome;
  if (reason.reason == Reason::start_failed && m_acquired) { finish.outcome = CallOutcome::exec_failed; }
  finish.exit_code = exit_code;
  if (finish.outcome == CallOutcome::interrupted) { finish.signal = reason.cause.code; }
  finish.error = words_of(reason);
  const bool is_of_holder = finish.outcome == CallOutcome::busy || finish.outcome == CallOutcome::timed_out;
  if (is_of_holder && reason.seen != nullptr && !reason.seen->holders.empty()) {
    finish.holder = &reason.seen->holders.front();
  }
  this->finish(std::move(finish));
}

void EventLog::lost(const std::string& reason)
{
  if (m_is_on && !std::exchange(m_is_lost, true)) { write(lost_line(head(), plain_command(reason))); }
}

void EventLog::finished(const child::Ending& ending, int exit_code)
{
  if (!m_is_on) { return; }
  Finish finish;
  finish.exit_code = exit_code;
  switch (ending.how) {
  case child::Ending::How::exited:
    break;
  case child::Ending::How::killed:
    finish.signal = ending.value;
    break;
  case child::Ending::How::overtime:
    finish.outcome = CallOutcome::overtime;
    finish.signal = ending.needed_kill ? SIGKILL : m_call.rules.end_signal;
    break;
  case child::Ending::How::lost:
    finish.outcome = CallOutcome::lost;
    break;
  }
  this->finish(std::move(finish));
}

void EventLog::finished(int exit_code)
{
  if (!m_is_on) { return; }
  Finish finish;
  finish.exit_code = exit_code;
  this->finish(std::move(finish));
}

void EventLog::finish(Finish finish)
{
  const nanoseconds now = sys::steady_now();
  finish.waited = m_acquired.value_or(now) - m_began;
  if (m_acquired && m_released) { finish.held = *m_released - *m_acquired; }
  write(finished_line(head(), finish));
}

void EventLog::complain(const SysError& error) const
{
  // Who does not read our events may not read this either.
  tell_now(fmt::format("cannot write events to {}: {}, going on without", text::quoted(m_call.reporting.events),
    text::errno_words(error.code)));
}

EventHead EventLog::head() const
{
  return {sys::wall_now(), name_of(m_call.request), m_pid, plain_command(m_call.command)};
}

void EventLog::write(const std::string& line)
{
  const auto written = sys::offer(m_file, line, k_patience_with_reader);
  if (written && *written == line.size()) { return; }
  if (m_has_complained) { return; }
  m_has_complained = true;
  // Of a full disk a part of the line may have been taken.
  complain(written ? SysError{"write", ENOSPC} : written.error());
}

} // namespace lockrun::cli
