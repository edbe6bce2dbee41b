#include "engines/lease.hpp"

#include <algorithm>

namespace lockrun::engines {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

namespace {

constexpr milliseconds k_longest_ttl{1'000'000'000};

} // namespace

Lease lease_from(nanoseconds asked, milliseconds ttl)
{
  ttl = std::clamp(ttl, milliseconds(0), k_longest_ttl);
  return {asked + nanoseconds(ttl) / 100 * 99, ttl};
}

nanoseconds renewal_of(const Lease& lease)
{
  return lease.deadline - nanoseconds(lease.ttl) / 100 * 99 + nanoseconds(lease.ttl) / 3;
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
