#include "timeline/picture.hpp"

#include "text/duration.hpp"
#include "text/quote.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <queue>

#include <fmt/format.h>

namespace lockrun::timeline {
namespace {

using namespace std::chrono_literals;

constexpr std::array<Look, k_fates> k_looks{{
  {"ran", "ran", ' ', "32", "#2f9e62"},
  {"open", "no end seen", '>', "34", "#3d7edb"},
  {"interrupted", "interrupted", 'i', "36", "#1796a8"},
  {"busy", "busy", 'b', "33", "#d9a514"},
  {"timed-out", "timed out", 't', "33", "#e07f1f"},
  {"command-failed", "command failed", 'x', "31", "#d9484c"},
  {"overtime", "overtime", 'o', "35", "#a04fc4"},
  {"lost", "lock lost", 'l', "35", "#c2409b"},
  {"deadlock", "deadlock", 'd', "35", "#7457d6"},
  {"exec-failed", "not started", 'e', "31", "#ad3a2e"},
  {"failed", "failed", 'f', "31", "#87343a"},
}};

// Of nothing there is no picture.
constexpr microseconds k_shortest = 1ms;

std::string clock_text(WallTime moment, const char* format)
{
  const std::time_t time = std::chrono::floor<std::chrono::seconds>(moment).count();
  std::tm parts{};
  if (::localtime_r(&time, &parts) == nullptr) { return "?"; }
  std::array<char, 64> text{};
  return {text.data(), std::strftime(text.data(), text.size(), format, &parts)};
}

std::string count_text(std::size_t count, const char* noun)
{
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

// Behind the beginning, with so much between two.
std::string distance_text(microseconds distance, microseconds step)
{
  if (distance == microseconds(0)) { return "0s"; }
  if (step >= 1ms) { return "+" + text::duration_text(distance); }
  return fmt::format("+{}us", distance.count());
}

// Of how much of the time somebody had the lock, from 0 to 1.
double share_held(const Lock& lock)
{
  std::vector<std::pair<WallTime, WallTime>> holds;
  for (const Call* call : lock.calls) {
    if (call->acquired) { holds.emplace_back(*call->acquired, call->end); }
  }
  std::sort(holds.begin(), holds.end());
  WallTime begin = WallTime::max();
  WallTime end = WallTime::min();
  for (const Call* call : lock.calls) {
    begin = std::min(begin, call->begin);
    end = std::max(end, call->end);
  }
  microseconds held{};
  WallTime until = begin;
  for (const auto& [from, to] : holds) {
    held += std::max(microseconds(0), to - std::max(from, until));
    until = std::max(until, to);
  }
  return end > begin ? static_cast<double>(held.count()) / static_cast<double>((end - begin).count()) : 0;
}

} // namespace

const Look& look_of(Fate fate)
{
  return k_looks.at(static_cast<std::size_t>(fate));
}

Picture picture_of(const std::vector<Call>& calls, const Selection& selection)
{
  Picture picture;
  std::vector<const Call*> chosen;
  WallTime end = WallTime::min();
  for (const Call& call : calls) {
    if (call.lock.find(selection.lock) == std::string::npos) { continue; }
    chosen.push_back(&call);
    end = std::max(end, call.end);
  }
  const WallTime from = selection.last && !chosen.empty() ? end - *selection.last : WallTime::min();
  std::erase_if(chosen, [from](const Call* call) { return call->end < from; });
  if (chosen.empty()) {
    picture.end = picture.begin + k_shortest;
    return picture;
  }
  std::map<std::string_view, std::size_t> places;
  for (const Call* call : chosen) {
    const auto [place, is_new] = places.try_emplace(call->lock, picture.locks.size());
    if (is_new) { picture.locks.push_back({call->lock, {}}); }
    picture.locks[place->second].calls.push_back(call);
  }
  picture.calls = chosen.size();
  picture.begin = std::max(chosen.front()->begin, from);
  picture.end = std::max(end, picture.begin + k_shortest);
  return picture;
}

std::vector<Lane> pack(const std::vector<const Call*>& calls, microseconds gap)
{
  std::vector<Lane> lanes;
  using Busy = std::pair<WallTime, std::size_t>; // until when, and which lane
  std::priority_queue<Busy, std::vector<Busy>, std::greater<>> busy;
  std::priority_queue<std::size_t, std::vector<std::size_t>, std::greater<>> free;
  for (const Call* call : calls) {
    while (!busy.empty() && busy.top().first <= call->begin) {
      free.push(busy.top().second);
      busy.pop();
    }
    std::size_t lane = lanes.size();
    if (free.empty()) {
      lanes.emplace_back();
    } else {
      lane = free.top();
      free.pop();
    }
    lanes[lane].push_back(call);
    busy.emplace(call->end + gap, lane);
  }
  return lanes;
}

std::vector<Tick> ticks(const Picture& picture, std::size_t count)
{
  static constexpr std::array<microseconds, 37> k_steps{10us, 20us, 50us, 100us, 200us, 500us, 1ms, 2ms, 5ms, 10ms,
    20ms, 50ms, 100ms, 200ms, 500ms, 1s, 2s, 5s, 10s, 15s, 30s, 1min, 2min, 5min, 10min, 15min, 30min, 1h, 2h, 3h, 6h,
    12h, 24h, 48h, 168h, 336h, 720h};
  const microseconds span = picture.end - picture.begin;
  const auto wanted = static_cast<std::int64_t>(std::max<std::size_t>(count, 1));
  const auto* const found =
    std::find_if(k_steps.begin(), k_steps.end(), [&](microseconds step) { return span / step < wanted; });
  microseconds step = found == k_steps.end() ? k_steps.back() : *found;
  while (span / step >= wanted) { step *= 2; }

  std::vector<Tick> all;
  if (step < 1s) {
    for (microseconds at{}; at <= span; at += step) { all.push_back({picture.begin + at, distance_text(at, step)}); }
    return all;
  }
  const std::time_t time = std::chrono::floor<std::chrono::seconds>(picture.begin).count();
  std::tm parts{};
  (void)::localtime_r(&time, &parts); // what cannot be said in years is drawn in UTC
  const microseconds east = std::chrono::seconds(parts.tm_gmtoff);
  const WallTime local = picture.begin + east;
  WallTime at = local - local % step - east;
  if (at < picture.begin) { at += step; }
  const char* const format = step < 1min ? "%H:%M:%S" : step < 24h ? "%H:%M" : "%b %e";
  for (; at <= picture.end; at += step) {
    const bool is_new_day = step >= 1min && step < 24h && (at + east) % microseconds(24h) == microseconds(0);
    all.push_back({at, clock_text(at, is_new_day ? "%b %e" : format)});
  }
  return all;
}

Fates fates_of(const Picture& picture)
{
  Fates fates;
  for (const Lock& lock : picture.locks) {
    for (const Call* call : lock.calls) { ++fates[call->fate]; }
  }
  return fates;
}

bool has_shared(const Picture& picture)
{
  return std::any_of(picture.locks.begin(), picture.locks.end(), [](const Lock& lock) {
    return std::any_of(lock.calls.begin(), lock.calls.end(), [](const Call* call) { return call->is_shared; });
  });
}

std::string command_of(const Call& call)
{
  return call.command.empty() ? fmt::format("PID {}", call.pid) : text::escaped(call.command);
}

std::string note_of(const Call& call)
{
  if (call.fate == Fate::ran) { return text::duration_text(call.held()); }
  if (call.fate == Fate::command_failed && !call.details.empty()) { return text::escaped(call.details); }
  return look_of(call.fate).words;
}

std::string story_of(const Call& call)
{
  std::string story = fmt::format("{}\nPID {}, lock {}\nbegan {}", command_of(call), call.pid, text::escaped(call.lock),
    clock_text(call.begin, "%F %T %Z"));
  const bool has_end = call.fate != Fate::open;
  if (call.waited() > microseconds(0)) { story += "\nwaited " + text::duration_text(call.waited()); }
  if (call.acquired) {
    story += fmt::format("\nheld {}{}{}", has_end ? "" : "for at most ", text::duration_text(call.held()),
      call.is_shared ? ", shared" : "");
  }
  story += fmt::format("\n{}", look_of(call.fate).words);
  if (!call.details.empty()) { story += ": " + text::escaped(call.details); }
  return story;
}

std::string summary_of(const Lock& lock)
{
  Fates fates;
  microseconds longest{};
  for (const Call* call : lock.calls) {
    ++fates[call->fate];
    longest = std::max(longest, call->waited());
  }
  std::string text =
    fmt::format("{}; held {}%", count_text(lock.calls.size(), "call"), std::lround(share_held(lock) * 100));
  if (longest >= 1ms) { text += ", waited at most " + text::duration_text(longest); }
  const char* before = "; ";
  for (const auto& [fate, count] : fates) {
    text += fmt::format("{}{} {}", before, count, look_of(fate).words);
    before = ", ";
  }
  return text;
}

std::string headline_of(const Picture& picture)
{
  if (picture.calls == 0) { return "no calls"; }
  const bool is_one_day = clock_text(picture.begin, "%F") == clock_text(picture.end, "%F");
  return fmt::format("{} of {}, {} to {} ({})", count_text(picture.calls, "call"),
    count_text(picture.locks.size(), "lock"), clock_text(picture.begin, "%F %T"),
    clock_text(picture.end, is_one_day ? "%T %Z" : "%F %T %Z"), text::duration_text(picture.end - picture.begin));
}

} // namespace lockrun::timeline
