#include "remote/lease_clock.hpp"

#include <gtest/gtest.h>

namespace lockrun::remote {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

// A lease of 100 s that ends at 100 s on the elapsed clock, with 9 s for the polite signal.
constexpr LeaseTerms k_terms{seconds(100), seconds(2), seconds(9), seconds(1)};

class Clock : public ::testing::Test {
protected:
  LeaseClock clock = LeaseClock::create(k_terms).value();
};

TEST_F(Clock, AsksBeforeItKillsAndKillsBeforeTheLeaseEnds)
{
  EXPECT_EQ(clock.kill_at(), seconds(98));
  EXPECT_EQ(clock.ask_at(), seconds(89));
}

TEST_F(Clock, IsMovedByARenewal)
{
  clock.renew(seconds(150), seconds(50));

  EXPECT_EQ(clock.kill_at(), seconds(148));
  EXPECT_EQ(clock.ask_at(), seconds(139));
}

TEST_F(Clock, IsNotMovedBackByALateRenewal)
{
  clock.renew(seconds(99), seconds(50));

  EXPECT_EQ(clock.kill_at(), seconds(98));
}

TEST_F(Clock, RenewsNothingOnceTheTreeIsToldToEnd)
{
  ASSERT_TRUE(clock.claim_asking());
  clock.renew(seconds(150), seconds(90));

  EXPECT_EQ(clock.kill_at(), seconds(98));
}

TEST_F(Clock, RenewsNothingOnceItIsTimeToKill)
{
  clock.renew(seconds(150), seconds(98));

  EXPECT_EQ(clock.kill_at(), seconds(98));
}

TEST_F(Clock, LetsOnlyOneAsk)
{
  EXPECT_FALSE(clock.is_asked());
  EXPECT_TRUE(clock.claim_asking());
  EXPECT_FALSE(clock.claim_asking());
  EXPECT_TRUE(clock.is_asked());
}

TEST_F(Clock, EndsTheTreeInTheGraceAfterALoss)
{
  clock.lose(seconds(100), seconds(50));

  EXPECT_TRUE(clock.is_reported());
  EXPECT_EQ(clock.ask_at(), seconds(50));
  EXPECT_EQ(clock.kill_at(), seconds(59));
}

TEST_F(Clock, LeavesTheLastGraceWhenAnotherProcessMayHoldTheLock)
{
  clock.lose(nanoseconds(0), seconds(50));

  EXPECT_EQ(clock.kill_at(), seconds(51));
}

TEST_F(Clock, IsNeverMovedLaterByALoss)
{
  clock.lose(seconds(200), seconds(97));

  EXPECT_EQ(clock.ask_at(), seconds(89));
  EXPECT_EQ(clock.kill_at(), seconds(98));
}

TEST_F(Clock, IsTheSameInACopy)
{
  LeaseClock copy = clock;
  copy.renew(seconds(150), seconds(50));
  ASSERT_TRUE(copy.claim_asking());

  EXPECT_EQ(clock.kill_at(), seconds(148));
  EXPECT_TRUE(clock.is_asked());
}

TEST(LeaseTerms, LeaveHalfOfTheMarginAfterALossUnlessTheUserAsksForMore)
{
  const LeaseTerms standard = lease_terms(seconds(100), seconds(30), seconds(10), false);
  EXPECT_EQ(standard.margin, milliseconds(600));
  EXPECT_EQ(standard.grace, seconds(2));
  EXPECT_EQ(standard.last_grace, milliseconds(300));

  const LeaseTerms asked_for = lease_terms(seconds(100), seconds(30), seconds(5), true);
  EXPECT_EQ(asked_for.grace, seconds(5));
  EXPECT_EQ(asked_for.last_grace, seconds(5));
}

} // namespace
} // namespace lockrun::remote
