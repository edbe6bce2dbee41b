#pragma once

#include <chrono>

// How long a lock lives whose server ends it after a while, and when to do something about that: arithmetic that
// backends share.
namespace lockrun::engines {

// What a lease lasts where the user does not say, and the least that leaves time to renew it.
inline constexpr std::chrono::milliseconds k_default_ttl{30'000};
inline constexpr std::chrono::milliseconds k_shortest_ttl{2'000};

// The moment up to which the lock is ours for sure, and the TTL that it was computed from.
struct LeaseTime {
  std::chrono::nanoseconds deadline{0}; // of the elapsed clock
  std::chrono::milliseconds ttl{0};
};

// `asked` is the moment before the renewal was sent, `ttl` what the server returned. One percent is for clocks that run
// at different rates.
LeaseTime lease_from(std::chrono::nanoseconds asked, std::chrono::milliseconds ttl);

// That moment again.
std::chrono::nanoseconds asked_at(const LeaseTime& lease);

// When to renew a lease next.
std::chrono::nanoseconds renewal_of(const LeaseTime& lease);

// Until when it needs no renewal before the command starts: for a tenth of its time.
std::chrono::nanoseconds fresh_until(const LeaseTime& lease);

// How long one endpoint may take for its answer to a renewal before another one is asked in addition.
std::chrono::milliseconds try_limit(std::chrono::milliseconds ttl);

} // namespace lockrun::engines
