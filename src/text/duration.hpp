#pragma once

#include <lockrun/error.hpp>

#include <chrono>
#include <string>
#include <string_view>

namespace lockrun::text {

// The longest duration that can be asked for. It can be added to any clock without overflow.
inline constexpr std::chrono::hours k_longest_duration{36500 * 24};

// Reads `90`, `.5`, `30s`, `5m`, `1h30m`, `2d`, `250ms`: numbers with the units us, ms, s, m, h, d, added up; one
// number alone is seconds. Exact to the nanosecond, and rounded up: what is not zero does not become zero. The error
// says what is wrong with the text, as the end of a sentence.
Result<std::chrono::nanoseconds, const char*> parse_duration(std::string_view text);

// "250ms", "1.5s", "30s", "3m12s", "2h5m", "4d3h": the two largest units.
std::string duration_text(std::chrono::nanoseconds duration);

} // namespace lockrun::text
