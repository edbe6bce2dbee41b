#include "engines/lease.hpp"

#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using engines::lease_from;
using engines::renewal_of;
using engines::try_limit;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Lease, EndsOnePercentBeforeTheServerEndsItCountedFromTheQuestion)
{
  const auto lease = lease_from(seconds(100), seconds(30));
  EXPECT_EQ(lease.deadline, seconds(100) + milliseconds(29'700));
  EXPECT_EQ(lease.ttl, seconds(30));
}

TEST(Lease, IsRenewedAfterAThirdOfItsLife)
{
  EXPECT_EQ(renewal_of(lease_from(seconds(100), seconds(30))), seconds(110));
  EXPECT_EQ(renewal_of(lease_from(seconds(100), seconds(3))), seconds(101));
}

// With the shortest TTL, three endpoints of which two are silent: the third one's answer still comes before the guard
// ends the command (deadline - 200 ms - TTL/3).
TEST(Lease, LeavesTimeToAskOthers)
{
  EXPECT_EQ(try_limit(milliseconds(3'000)), milliseconds(300));
  EXPECT_EQ(try_limit(milliseconds(30'000)), milliseconds(2'000));
  for (const milliseconds ttl : {milliseconds(3'000), milliseconds(10'000), milliseconds(30'000)}) {
    const auto lease = lease_from(seconds(0), ttl);
    EXPECT_LT(renewal_of(lease) + 2 * try_limit(ttl), lease.deadline - milliseconds(200) - ttl / 3) << ttl.count();
  }
}

} // namespace
} // namespace lockrun::testing
