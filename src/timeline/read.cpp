#include "timeline/read.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace lockrun::timeline {
namespace {

using nlohmann::json;
using std::chrono::seconds;

// Longer than anybody waits, and so short that a moment and two of them can be added.
constexpr double k_longest_s = 3.2e9;
// By how much the clocks of one call may differ: waiting is measured by another one than moments are.
constexpr seconds k_clocks_differ{1};
// Nothing at all has been seen of the end of a call.
constexpr WallTime k_unknown = WallTime::max();

std::string text_in(const json& object, const char* name)
{
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::optional<std::int64_t> integer_in(const json& object, const char* name)
{
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_integer()) { return std::nullopt; }
  return found->get<std::int64_t>();
}

std::optional<microseconds> duration_in(const json& object, const char* name)
{
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number()) { return std::nullopt; }
  const double value = found->get<double>();
  if (!(value >= 0)) { return microseconds(0); }
  return microseconds(std::llround(std::min(value, k_longest_s) * 1e6));
}

// "2026-11-23T14:05:09.123456Z"; the fraction may have fewer digits, or be missing.
std::optional<WallTime> moment_of(std::string_view text)
{
  constexpr std::string_view k_form = "0000-00-00T00:00:00";
  if (text.size() <= k_form.size() || text.back() != 'Z') { return std::nullopt; }
  for (std::size_t i = 0; i < k_form.size(); ++i) {
    const bool is_digit = text[i] >= '0' && text[i] <= '9';
    if (k_form[i] == '0' ? !is_digit : text[i] != k_form[i]) { return std::nullopt; }
  }
  const auto number = [text](std::size_t at, std::size_t digits) {
    int value = 0;
    (void)std::from_chars(text.data() + at, text.data() + at + digits, value);
    return value;
  };
  std::string_view fraction = text.substr(k_form.size(), text.size() - k_form.size() - 1);
  int millionths = 0;
  if (!fraction.empty()) {
    if (fraction.front() != '.') { return std::nullopt; }
    fraction = fraction.substr(1, 6);
    const auto end = fraction.data() + fraction.size();
    if (std::from_chars(fraction.data(), end, millionths).ptr != end || millionths < 0) { return std::nullopt; }
    for (std::size_t digits = fraction.size(); digits < 6; ++digits) { millionths *= 10; }
  }
  const std::chrono::year_month_day date{std::chrono::year(number(0, 4)),
    std::chrono::month(static_cast<unsigned>(number(5, 2))), std::chrono::day(static_cast<unsigned>(number(8, 2)))};
  if (!date.ok()) { return std::nullopt; }
  return std::chrono::sys_days(date).time_since_epoch() + std::chrono::hours(number(11, 2)) +
         std::chrono::minutes(number(14, 2)) + seconds(number(17, 2)) + microseconds(millionths);
}

std::optional<Fate> fate_of(const std::string& outcome)
{
  static const std::map<std::string, Fate> k_outcomes{{"ran", Fate::ran}, {"busy", Fate::busy},
    {"timed_out", Fate::timed_out}, {"deadlock", Fate::deadlock}, {"overtime", Fate::overtime}, {"lost", Fate::lost},
    {"interrupted", Fate::interrupted}, {"exec_failed", Fate::exec_failed}, {"failed", Fate::failed}};
  const auto found = k_outcomes.find(outcome);
  return found == k_outcomes.end() ? std::nullopt : std::optional(found->second);
}

std::string details_of(const json& event)
{
  if (std::string error = text_in(event, "error"); !error.empty()) { return error; }
  if (const auto holder = event.find("holder"); holder != event.end() && holder->is_object()) {
    const auto pid = integer_in(*holder, "pid");
    const std::string command = text_in(*holder, "command");
    return "held by " + (pid ? fmt::format("PID {}", *pid) : "somebody") +
           (command.empty() ? "" : fmt::format(" ({})", command));
  }
  if (std::string signal = text_in(event, "signal"); !signal.empty()) { return signal; }
  const std::int64_t exit_code = integer_in(event, "exit_code").value_or(0);
  return exit_code == 0 ? std::string() : fmt::format("exit {}", exit_code);
}

} // namespace

void Reader::line(std::string_view text)
{
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) { return; }
  const json event = json::parse(text, nullptr, false);
  if (!event.is_object() || !take(event)) { ++m_skipped; }
}

bool Reader::take(const json& event)
{
  const std::string name = text_in(event, "event");
  const auto time = moment_of(text_in(event, "time"));
  const auto pid = integer_in(event, "pid");
  const std::string lock = text_in(event, "lock");
  if (!time || !pid || lock.empty()) { return false; }
  const Key key{*pid, lock};
  if (name == "waiting") {
    const auto known = m_unfinished.find(key);
    const bool waits_again = known != m_unfinished.end() && !m_calls[known->second].acquired;
    Call& call = waits_again ? m_calls[known->second] : start(key, *time);
    call.command = text_in(event, "command");
  } else if (name == "acquired") {
    Call& call = resume(key, *time - duration_in(event, "waited_s").value_or(microseconds(0)));
    call.command = text_in(event, "command");
    call.acquired = std::max(*time, call.begin);
    call.is_shared = text_in(event, "mode") == "shared";
    call.has_slot = integer_in(event, "slot").has_value();
  } else if (name == "finished") {
    if (!fate_of(text_in(event, "outcome"))) { return false; }
    finish(event, key, *time);
  } else if (name != "overtime" && name != "lost") { // which say nothing that the outcome does not say
    return false;
  }
  m_last = std::max(m_last, *time);
  return true;
}

Call& Reader::start(const Key& key, WallTime begin)
{
  if (const auto known = m_unfinished.find(key); known != m_unfinished.end()) {
    // That process is gone, or its number would not belong to another one.
    Call& gone = m_calls[known->second];
    gone.end = std::max(begin, gone.acquired.value_or(gone.begin));
  }
  m_unfinished[key] = m_calls.size();
  Call& call = m_calls.emplace_back();
  call.pid = key.first;
  call.lock = key.second;
  call.begin = begin;
  call.end = k_unknown;
  return call;
}

// The call that began then: the one that waits, unless that is an older one which was killed.
Call& Reader::resume(const Key& key, WallTime begin)
{
  const auto known = m_unfinished.find(key);
  if (known == m_unfinished.end()) { return start(key, begin); }
  Call& call = m_calls[known->second];
  if (call.acquired || begin > call.begin + k_clocks_differ) { return start(key, begin); }
  call.begin = std::min(call.begin, begin);
  return call;
}

void Reader::finish(const json& event, const Key& key, WallTime time)
{
  const auto held = duration_in(event, "held_s");
  const auto known = m_unfinished.find(key);
  const WallTime begin =
    time - held.value_or(microseconds(0)) - duration_in(event, "waited_s").value_or(microseconds(0));
  Call& call =
    known != m_unfinished.end() && m_calls[known->second].acquired ? m_calls[known->second] : resume(key, begin);
  call.command = text_in(event, "command");
  call.details = details_of(event);
  call.fate = *fate_of(text_in(event, "outcome"));
  if (call.fate == Fate::ran && integer_in(event, "exit_code").value_or(0) != 0) { call.fate = Fate::command_failed; }
  if (held && !call.acquired) { call.acquired = std::max(time - *held, call.begin); }
  call.end = std::max(held ? *call.acquired + *held : time, call.acquired.value_or(call.begin));
  if (call.acquired && !held && call.fate == Fate::ran) { // a descriptor, with which the lock stays
    call.fate = Fate::open;
    call.end = k_unknown;
  }
  m_unfinished.erase(key);
}

std::vector<Call> Reader::calls() &&
{
  std::vector<Call*> latest_first;
  for (Call& call : m_calls) {
    if (call.end != k_unknown) { m_last = std::max(m_last, call.end); }
    latest_first.push_back(&call);
  }
  // Who has the lock has it at the longest until somebody else gets it whom it excludes.
  std::stable_sort(latest_first.begin(), latest_first.end(),
    [](const Call* a, const Call* b) { return a->acquired.value_or(a->begin) > b->acquired.value_or(b->begin); });
  struct Next {
    WallTime any = WallTime::max(), exclusive = WallTime::max();
  };
  std::map<std::string_view, Next> next_of;
  for (Call* call : latest_first) {
    Next& next = next_of[call->lock];
    if (call->end == k_unknown) {
      const WallTime taken = call->is_shared ? next.exclusive : next.any;
      call->end = std::max(call->acquired ? std::min(taken, m_last) : m_last, call->acquired.value_or(call->begin));
    }
    if (!call->acquired || call->has_slot) { continue; }
    next.any = *call->acquired;
    if (!call->is_shared) { next.exclusive = *call->acquired; }
  }
  std::stable_sort(m_calls.begin(), m_calls.end(), [](const Call& a, const Call& b) { return a.begin < b.begin; });
  return std::move(m_calls);
}

} // namespace lockrun::timeline
