#pragma once

#include <algorithm>
#include <chrono>

namespace lockrun::protocol {

// When lockrun ends a command whose lease is not renewed (lockrun-engine(7)): an engine has to renew it in time for
// that.

// SIGKILL comes so long before the lease ends.
constexpr std::chrono::nanoseconds kill_margin(std::chrono::nanoseconds ttl)
{
  constexpr std::chrono::milliseconds k_shortest{200};
  return std::max<std::chrono::nanoseconds>(k_shortest, ttl / 50);
}

// The polite signal comes so long before SIGKILL; `wanted` is what -k says, or else its default. Time to end in is time
// in which the lease is not renewed any more: without a wish for it an outage may take more.
constexpr std::chrono::nanoseconds grace_period(
  std::chrono::nanoseconds ttl, std::chrono::nanoseconds wanted, bool is_asked_for)
{
  return std::min(wanted, ttl / (is_asked_for ? 3 : 15));
}

} // namespace lockrun::protocol
