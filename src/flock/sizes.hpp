#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace lockrun::flock {

// Numbers as flock(1) reads them.

// A size in bytes: "10", "0x10", "4K" (1024), "4KB" (1000), "1.5M", up to E. None if it is no such size, or too large.
std::optional<std::int64_t> parse_size(const char* text);

// A time limit as a timer takes it. Less than zero: one that no timer can be set to.
struct TimeLimit {
  std::chrono::seconds whole{};
  std::chrono::microseconds fraction{};

  bool is_zero() const noexcept { return whole.count() == 0 && fraction.count() == 0; }
  bool is_possible() const noexcept { return whole.count() >= 0 && fraction.count() >= 0; }
};

// Seconds as strtod(3) reads them, "1e3" and "inf" included. None if it is no number.
std::optional<TimeLimit> parse_limit(const char* text);

} // namespace lockrun::flock
