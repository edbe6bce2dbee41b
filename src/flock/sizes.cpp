#include "flock/sizes.hpp"

#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string_view>

namespace lockrun::flock {
namespace {

using std::chrono::microseconds;
using std::chrono::seconds;

// What is behind the digits of a size: nothing, K or KiB (1024), KB (1000), and so on with M, G, T, P, E.
std::optional<std::int64_t> multiplier(std::string_view suffix)
{
  if (suffix.empty()) { return 1; }
  constexpr std::string_view k_letters = "KMGTPEkmgtpe";
  const std::size_t letter = k_letters.find(suffix.front());
  if (letter == k_letters.npos) { return std::nullopt; }
  const std::string_view unit = suffix.substr(1);
  const bool decimal = unit == "B" || unit == "b";
  if (!decimal && !unit.empty() && unit != "iB" && unit != "ib") { return std::nullopt; }
  std::int64_t result = 1;
  for (std::size_t power = letter % 6 + 1; power > 0; --power) { result *= decimal ? 1000 : 1024; }
  return result;
}

// What the digits behind a point add. Each is rounded by itself, and not well ("1.9K" is 2048): as in flock(1), because
// whoever asks for the same size must get a lock on the same bytes.
std::int64_t fraction_of(std::string_view digits, std::int64_t unit)
{
  constexpr std::size_t k_most_digits = 17; // so that its place fits; what is behind them is nothing
  std::int64_t number = 0;
  std::int64_t place = 10;
  std::size_t zeros = 0;
  for (const char digit : digits.substr(0, k_most_digits)) {
    number = number * 10 + (digit - '0');
    if (number == 0) { ++zeros; }
  }
  while (place < number) { place *= 10; }
  for (; zeros > 0; --zeros) { place *= 10; }
  std::int64_t sum = 0;
  for (; number > 0; number /= 10, place /= 10) {
    const std::int64_t digit = number % 10;
    if (digit > 0 && place >= digit) { sum += unit / (place / digit); }
  }
  return sum;
}

} // namespace

std::optional<std::int64_t> parse_size(const char* text)
{
  char* end = nullptr;
  errno = 0;
  const std::int64_t whole = std::strtoll(text, &end, 0);
  std::string_view suffix = end;
  std::string_view digits;
  if (suffix.starts_with('.')) {
    digits = suffix.substr(1, std::strspn(end + 1, "0123456789"));
    suffix.remove_prefix(1 + digits.size());
    if (suffix.empty()) { end = nullptr; } // there are no parts of a byte
  }
  const std::int64_t factor = end == nullptr || end == text ? 0 : multiplier(suffix).value_or(0);
  const std::int64_t fraction = fraction_of(digits, factor);
  const bool is_too_large = factor != 0 && whole > (std::numeric_limits<std::int64_t>::max() - fraction) / factor;
  if (factor == 0 || whole < 0 || errno == ERANGE || is_too_large) { return std::nullopt; }
  return whole * factor + fraction;
}

std::optional<TimeLimit> parse_limit(const char* text)
{
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (end == text || *end != '\0') { return std::nullopt; }
  if (!(std::fabs(value) < 9.2e18)) { return TimeLimit{seconds(-1), {}}; }
  const double whole = std::trunc(value);
  return TimeLimit{
    seconds(static_cast<std::int64_t>(whole)), microseconds(static_cast<std::int64_t>((value - whole) * 1e6))};
}

} // namespace lockrun::flock
