#include "engines/lease.hpp"

#include "protocol/lease.hpp"

#include <algorithm>

namespace lockrun::engines {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

namespace {

constexpr milliseconds k_longest_ttl{1'000'000'000};

constexpr milliseconds k_default_grace{10'000}; // of lockrun's -k
// This long may pass between two tries, even if there is hurry.
constexpr milliseconds k_shortest_pause{250};

} // namespace

LeaseTime lease_from(nanoseconds asked, milliseconds ttl)
{
  ttl = std::clamp(ttl, milliseconds(0), k_longest_ttl);
  return {asked + nanoseconds(ttl) / 100 * 99, ttl};
}

nanoseconds asked_at(const LeaseTime& lease)
{
  return lease.deadline - nanoseconds(lease.ttl) / 100 * 99;
}

// After a third of the time, or earlier where less than half of it would be left for an outage: with a short TTL that
// is because the margin and the pause between two tries do not shrink with it.
nanoseconds renewal_of(const LeaseTime& lease)
{
  const nanoseconds ttl = lease.ttl;
  const nanoseconds asked = asked_at(lease);
  const nanoseconds margin = protocol::kill_margin(ttl);
  const nanoseconds grace = protocol::grace_period(ttl, k_default_grace, false);
  const nanoseconds pause = std::max(k_shortest_pause, try_limit(lease.ttl) / 2);
  return std::clamp(lease.deadline - margin - grace - pause - ttl / 2, asked + ttl / 6, asked + ttl / 3);
}

nanoseconds fresh_until(const LeaseTime& lease)
{
  return lease.deadline - nanoseconds(lease.ttl) / 100 * 89;
}

milliseconds try_limit(milliseconds ttl)
{
  return std::clamp(ttl / 10, milliseconds(250), milliseconds(2'000));
}

} // namespace lockrun::engines
