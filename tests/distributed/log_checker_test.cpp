#include "log_checker.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr const char* k_good = "begin 10 5 1000000\n"
                               "tick 10 5 6000000\n"
                               "end 10 5 7000000\n"
                               "begin 11 8 7000000\n"
                               "tick 11 8 12000000\n"
                               "begin 12 9 20000000\n"
                               "end 12 9 20000001\n";

TEST(LogChecker, FindsNothingWhereNothingIsWrong)
{
  const LogVerdict verdict = check_log(k_good);
  EXPECT_EQ(verdict.sections, 3U);
  EXPECT_THAT(verdict.overlaps, IsEmpty());
  EXPECT_THAT(verdict.inversions, IsEmpty());
  EXPECT_THAT(verdict.stale, IsEmpty());
  EXPECT_EQ(verdict.refused, 0U);
  EXPECT_THAT(verdict.oddities, IsEmpty());
}

TEST(LogChecker, FindsAnOverlap)
{
  const LogVerdict verdict = check_log(std::string(k_good) + "tick 11 8 22500000\n");
  EXPECT_THAT(verdict.overlaps, ElementsAre("PID 12 (token 9) began 2500 us before PID 11 (token 8) was last seen"));
}

TEST(LogChecker, FindsAnOverlapWithOneThatBeganLongAgo)
{
  const LogVerdict verdict =
    check_log("begin 1 1 10\nbegin 2 2 20\nend 2 2 21\nbegin 3 3 30\nend 3 3 31\nend 1 1 40\n");
  EXPECT_EQ(verdict.overlaps.size(), 2U);
}

TEST(LogChecker, FindsATokenThatDoesNotRise)
{
  EXPECT_THAT(check_log("begin 1 5 10\nbegin 2 7 20\nbegin 3 6 30\nbegin 4 7 40\n").inversions,
    ElementsAre("PID 3 began with token 6 after 7", "PID 4 began with token 7 after 7"));
}

TEST(LogChecker, CountsThoseWhoWereRefusedBecauseTheyCameTooLate)
{
  const LogVerdict verdict =
    check_log("begin 1 5 10\ntick 1 5 11\nbegin 2 7 20\ntick 2 7 21\nrefused 1 5 22\ntick 2 7 23\n");
  EXPECT_EQ(verdict.refused, 1U);
  EXPECT_THAT(verdict.stale, IsEmpty());
  EXPECT_THAT(verdict.overlaps, SizeIs(1)); // it was at it, for all that
}

TEST(LogChecker, FindsAnOldTokenThatWasLetInAfterANewerOne)
{
  EXPECT_THAT(check_log("begin 1 5 10\nbegin 2 7 20\ntick 2 7 21\ntick 1 5 22\n").stale,
    ElementsAre("PID 1 was let in with token 5 after 7"));
}

TEST(LogChecker, FindsTheNewestTokenRefused)
{
  EXPECT_THAT(check_log("begin 1 5 10\ntick 1 5 11\nbegin 2 7 20\nrefused 2 7 21\n").stale,
    ElementsAre("PID 2 was refused with token 7 after 5"));
}

TEST(LogChecker, FindsLinesThatNoTickerWrites)
{
  EXPECT_THAT(check_log("begin 1 5\ntick 2 5 10\nbegin 3 5 20\ntick 3 6 21\ntock 3 5 22\n").oddities,
    ElementsAre("begin 1 5", "tick 2 5 10", "tick 3 6 21", "tock 3 5 22"));
}

TEST(LogChecker, TakesANumberThatTheKernelUsesAgainForANewProcess)
{
  const LogVerdict verdict = check_log("begin 1 5 10\ntick 1 5 20\nbegin 1 7 30\ntick 1 7 40\n");
  EXPECT_EQ(verdict.sections, 2U);
  EXPECT_THAT(verdict.overlaps, IsEmpty());
  EXPECT_THAT(verdict.oddities, IsEmpty());
}

TEST(LogChecker, FindsWhatIsLeftBehind)
{
  EXPECT_THAT(leftovers({"config"}, {"config"}), IsEmpty());
  EXPECT_THAT(leftovers({"config"}, {"config", "lock/77"}), ElementsAre("lock/77"));
}

} // namespace
} // namespace lockrun::testing
