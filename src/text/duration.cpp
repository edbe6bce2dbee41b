#include "text/duration.hpp"

#include "text/ascii.hpp"

#include <cstddef>
#include <cstdint>
#include <ratio>

#include <fmt/format.h>

namespace lockrun::text {
namespace {

using std::chrono::nanoseconds;
using Wrong = tl::unexpected<const char*>;

struct Unit {
  std::string_view name;
  nanoseconds length;
};
constexpr Unit k_units[] = {
  {"us", std::chrono::microseconds(1)},
  {"ms", std::chrono::milliseconds(1)},
  {"s", std::chrono::seconds(1)},
  {"m", std::chrono::minutes(1)},
  {"h", std::chrono::hours(1)},
  {"d", std::chrono::hours(24)},
};

// __int128 is no ISO C++; the products below need 64 + 57 bits.
__extension__ using Wide = __int128;

constexpr const char* k_too_long = "it is longer than 36500d";

// Takes the characters off the front of `text` for which `belongs` holds.
template <class Belongs>
std::string_view take_while(std::string_view& text, Belongs belongs)
{
  std::size_t size = 0;
  while (size < text.size() && belongs(text[size])) { ++size; }
  const std::string_view taken = text.substr(0, size);
  text.remove_prefix(size);
  return taken;
}

// `whole`.`fraction` times `unit`, rounded up. Digits behind the eighteenth of the fraction can only round up.
Result<nanoseconds, const char*> product(std::string_view whole, std::string_view fraction, nanoseconds unit)
{
  constexpr Wide k_limit = nanoseconds(k_longest_duration).count();
  Wide amount = 0;
  for (const char digit : whole) {
    amount = amount * 10 + (digit - '0');
    if (amount > k_limit) { return Wrong(k_too_long); }
  }
  amount *= unit.count();
  Wide numerator = 0;
  Wide denominator = 1;
  bool is_cut = false;
  for (const char digit : fraction) {
    if (denominator < Wide{1'000'000'000'000'000'000}) {
      numerator = numerator * 10 + (digit - '0');
      denominator *= 10;
    } else {
      is_cut = is_cut || digit != '0';
    }
  }
  numerator *= unit.count();
  amount += numerator / denominator + (numerator % denominator != 0 || is_cut ? 1 : 0);
  if (amount > k_limit) { return Wrong(k_too_long); }
  return nanoseconds(static_cast<std::int64_t>(amount));
}

} // namespace

Result<nanoseconds, const char*> parse_duration(std::string_view text)
{
  if (text.empty()) { return Wrong("it is empty"); }
  if (text.front() == '-') { return Wrong("it is negative"); }
  nanoseconds sum{};
  for (bool is_first = true; !text.empty(); is_first = false) {
    const std::string_view whole = take_while(text, is_digit);
    const bool has_point = text.starts_with('.');
    if (has_point) { text.remove_prefix(1); }
    const std::string_view fraction = has_point ? take_while(text, is_digit) : std::string_view();
    if (whole.empty() && fraction.empty()) { return Wrong("it is no duration such as 90, .5, 30s, 5m or 1h30m"); }

    const std::string_view name = take_while(text, [](char c) { return !is_digit(c) && c != '.'; });
    const Unit* unit = nullptr;
    for (const Unit& candidate : k_units) {
      if (candidate.name == (name.empty() ? "s" : name)) { unit = &candidate; }
    }
    if (unit == nullptr) { return Wrong("the units are us, ms, s, m, h and d"); }
    if (name.empty() && !(is_first && text.empty())) { return Wrong("a number lacks its unit"); }

    const auto part = product(whole, fraction, unit->length);
    if (!part) { return part; }
    sum += *part;
    if (sum > k_longest_duration) { return Wrong(k_too_long); }
  }
  return sum;
}

std::string duration_text(nanoseconds duration)
{
  using namespace std::chrono;
  if (duration < seconds(1)) { return fmt::format("{}ms", duration_cast<milliseconds>(duration).count()); }
  if (duration < minutes(1) && duration % seconds(1) != nanoseconds(0)) {
    const auto tenths = round<std::chrono::duration<long long, std::deci>>(duration).count();
    return fmt::format("{}.{}s", tenths / 10, tenths % 10);
  }
  struct Part {
    long long seconds;
    char letter;
  };
  std::string text;
  long long rest = duration_cast<seconds>(duration).count();
  for (const Part part : {Part{86400, 'd'}, Part{3600, 'h'}, Part{60, 'm'}, Part{1, 's'}}) {
    const bool is_second = !text.empty();
    if (rest >= part.seconds) { text += fmt::format("{}{}", rest / part.seconds, part.letter); }
    rest %= part.seconds;
    if (is_second) { break; }
  }
  return text;
}

} // namespace lockrun::text
