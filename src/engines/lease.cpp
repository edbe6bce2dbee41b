#include "engines/lease.hpp"

#include <algorithm>

namespace lockrun::engines {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

namespace {

constexpr milliseconds k_longest_ttl{1'000'000'000};

// When lockrun ends a command by itself (lockrun-engine(7)): it asks for that so long before the deadline, …
constexpr milliseconds k_shortest_margin{200};
constexpr milliseconds k_longest_grace{10'000};
// … and this long may pass between two tries, even if there is hurry.
constexpr milliseconds k_shortest_pause{250};

} // namespace

Lease lease_from(nanoseconds asked, milliseconds ttl)
{
  ttl = std::clamp(ttl, milliseconds(0), k_longest_ttl);
  return {asked + nanoseconds(ttl) / 100 * 99, ttl};
}

nanoseconds asked_at(const Lease& lease)
{
  return lease.deadline - nanoseconds(lease.ttl) / 100 * 99;
}

// After a third of the time, or earlier where less than half of it would be left for an outage: with a short TTL that
// is because the margin and the pause between two tries do not shrink with it.
nanoseconds renewal_of(const Lease& lease)
{
  const nanoseconds ttl = lease.ttl;
  const nanoseconds asked = asked_at(lease);
  const nanoseconds margin = std::max<nanoseconds>(k_shortest_margin, ttl / 50);
  const nanoseconds grace = std::min<nanoseconds>(k_longest_grace, ttl / 15);
  const nanoseconds pause = std::max(k_shortest_pause, try_limit(lease.ttl) / 2);
  return std::clamp(lease.deadline - margin - grace - pause - ttl / 2, asked + ttl / 6, asked + ttl / 3);
}

nanoseconds fresh_until(const Lease& lease)
{
  return lease.deadline - nanoseconds(lease.ttl) / 100 * 89;
}

milliseconds try_limit(milliseconds ttl)
{
  return std::clamp(ttl / 10, milliseconds(250), milliseconds(2'000));
}

} // namespace lockrun::engines
