#include "cli/json.hpp"

#include "cli/holder_words.hpp"
#include "cli/lines.hpp"
#include "sys/clock.hpp"
#include "text/utf8.hpp"
#include "text/words.hpp"

#include <algorithm>
#include <cstddef>
#include <ctime>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace lockrun::cli {
namespace {

using nlohmann::ordered_json;
using std::chrono::nanoseconds;

// Events have at most PIPE_BUF bytes, so that those of many processes do not mix in a pipe (pipe(7)). Two paths and a
// command fit in, or one, two commands and an error.
constexpr std::size_t k_path_bytes = 1500;
constexpr std::size_t k_command_bytes = 500;

// The beginning of `text` that takes at most so many bytes as JSON.
std::string within(std::size_t bytes, std::string_view text)
{
  constexpr std::size_t k_escaped = 6;  // "\u001b"
  constexpr std::size_t k_replaced = 3; // U+FFFD
  std::size_t length = 0;
  while (length < text.size()) {
    const text::Character character = text::first_character(text.substr(length));
    const bool is_quoted = character.code == '"' || character.code == '\\';
    const std::size_t needed = character.size == 0    ? k_replaced
                               : character.code < ' ' ? k_escaped
                                                      : character.size + (is_quoted ? 1 : 0);
    if (needed > bytes) { break; }
    bytes -= needed;
    length += std::max<std::size_t>(character.size, 1);
  }
  return std::string(text.substr(0, length));
}

const char* name_of(LockApi api)
{
  switch (api) {
  case LockApi::flock:
    return "flock";
  case LockApi::ofd:
    return "ofd";
  case LockApi::engine:
    return "engine";
  case LockApi::posix:
    break;
  }
  return "posix";
}

const char* name_of(Holder::Evidence evidence)
{
  switch (evidence) {
  case Holder::Evidence::taker:
    return "taker";
  case Holder::Evidence::gone:
    return "gone";
  case Holder::Evidence::descriptor:
    break;
  }
  return "descriptor";
}

const char* name_of(CallOutcome outcome)
{
  switch (outcome) {
  case CallOutcome::ran:
    return "ran";
  case CallOutcome::busy:
    return "busy";
  case CallOutcome::timed_out:
    return "timed_out";
  case CallOutcome::deadlock:
    return "deadlock";
  case CallOutcome::overtime:
    return "overtime";
  case CallOutcome::lost:
    return "lost";
  case CallOutcome::interrupted:
    return "interrupted";
  case CallOutcome::exec_failed:
    return "exec_failed";
  case CallOutcome::failed:
    break;
  }
  return "failed";
}

// "2026-11-23T14:05:09.123456Z".
std::string moment_text(nanoseconds since_1970)
{
  const auto whole = std::chrono::floor<std::chrono::seconds>(since_1970);
  const auto microseconds = std::chrono::floor<std::chrono::microseconds>(since_1970 - whole).count();
  const std::time_t time = whole.count();
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", parts.tm_year + 1900, parts.tm_mon + 1,
    parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, microseconds);
}

// To the microsecond.
double seconds_of(nanoseconds duration)
{
  const auto microseconds = std::chrono::floor<std::chrono::microseconds>(std::max(duration, nanoseconds(0))).count();
  return static_cast<double>(microseconds) / 1e6;
}

template <class T>
ordered_json or_null(bool is_known, const T& value)
{
  return is_known ? ordered_json(value) : ordered_json();
}

// A command line or a path may have any bytes.
std::string line_of(const ordered_json& json)
{
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

ordered_json json_of(const LockUser& user)
{
  ordered_json json;
  json["pid"] = or_null(user.pid > 0, user.pid);
  json["user"] = user.user ? ordered_json(user_name(*user.user)) : or_null(!user.user_name.empty(), user.user_name);
  if (!user.host.empty()) { json["host"] = user.host; }
  json["command"] = or_null(!user.command.empty(), command_run_by(user.command));
  json["api"] = name_of(user.api);
  json["since"] = user.since ? ordered_json(moment_text(*user.since)) : ordered_json();
  return json;
}

ordered_json json_of(const Holder& holder, nanoseconds now)
{
  ordered_json json = json_of(static_cast<const LockUser&>(holder));
  const bool is_known = holder.since_kind == Holder::SinceKind::acquired;
  json["since_kind"] = or_null(holder.since.has_value(), is_known ? "acquired" : "at_most");
  json["held_s"] = holder.since ? ordered_json(seconds_of(now - *holder.since)) : ordered_json();
  json["mode"] = mode_name(holder.mode);
  json["slot"] = holder.slot ? ordered_json(*holder.slot) : ordered_json();
  if (!holder.token.empty()) { json["token"] = holder.token; }
  if (holder.api != LockApi::engine) { json["evidence"] = name_of(holder.evidence); }
  return json;
}

ordered_json json_of(const Waiter& waiter)
{
  ordered_json json = json_of(static_cast<const LockUser&>(waiter));
  json["since_kind"] = or_null(waiter.since.has_value(), "at_most");
  json["mode"] = waiter.mode ? ordered_json(mode_name(*waiter.mode)) : ordered_json();
  json["position"] = waiter.position;
  return json;
}

ordered_json begin(const EventHead& head, const char* event)
{
  ordered_json json;
  json["event"] = event;
  json["time"] = moment_text(head.time);
  json["lock"] = within(k_path_bytes, head.lock);
  json["pid"] = head.pid;
  json["command"] = or_null(!head.command.empty(), within(k_command_bytes, head.command));
  return json;
}

} // namespace

std::string status_line(const std::string& lock, const LockStatus& status)
{
  const nanoseconds now = sys::wall_now();
  ordered_json json;
  json["lock"] = lock;
  json["state"] = state_name(status.state);
  json["api"] = status.holders.empty() ? ordered_json() : ordered_json(name_of(status.holders.front().api));
  json["holders"] = ordered_json::array();
  for (const Holder& holder : status.holders) { json["holders"].push_back(json_of(holder, now)); }
  json["waiters"] = ordered_json::array();
  for (const Waiter& waiter : status.waiters) { json["waiters"].push_back(json_of(waiter)); }
  return line_of(json);
}

std::string waiting_line(const EventHead& head, const std::string& waits_for)
{
  ordered_json json = begin(head, "waiting");
  json["waits_for"] = within(k_path_bytes, waits_for);
  return line_of(json);
}

std::string acquired_line(
  const EventHead& head, nanoseconds waited, Mode mode, std::optional<int> slot, const std::string& token)
{
  ordered_json json = begin(head, "acquired");
  json["waited_s"] = seconds_of(waited);
  json["mode"] = mode_name(mode);
  json["slot"] = slot ? ordered_json(*slot) : ordered_json();
  if (!token.empty()) { json["token"] = token; }
  return line_of(json);
}

std::string overtime_line(const EventHead& head, nanoseconds limit, int signal)
{
  ordered_json json = begin(head, "overtime");
  json["limit_s"] = seconds_of(limit);
  json["signal"] = text::signal_name(signal);
  return line_of(json);
}

std::string lost_line(const EventHead& head, const std::string& reason)
{
  ordered_json json = begin(head, "lost");
  json["error"] = within(k_command_bytes, reason);
  return line_of(json);
}

std::string finished_line(const EventHead& head, const Finish& finish)
{
  ordered_json json = begin(head, "finished");
  json["outcome"] = name_of(finish.outcome);
  json["exit_code"] = finish.exit_code;
  json["signal"] = finish.signal != 0 ? ordered_json(text::signal_name(finish.signal)) : ordered_json();
  json["waited_s"] = seconds_of(finish.waited);
  json["held_s"] = finish.held ? ordered_json(seconds_of(*finish.held)) : ordered_json();
  json["holder"] = nullptr;
  if (finish.holder != nullptr) {
    Holder holder = *finish.holder;
    holder.command = within(k_command_bytes, command_run_by(std::move(holder.command)));
    json["holder"] = json_of(holder, head.time);
  }
  json["error"] = or_null(!finish.error.empty(), within(k_command_bytes, finish.error));
  return line_of(json);
}

} // namespace lockrun::cli
