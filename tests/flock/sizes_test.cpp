#include "flock/sizes.hpp"

#include <gtest/gtest.h>

namespace lockrun::flock {
namespace {

TEST(Sizes, AreReadWithTheirUnits)
{
  EXPECT_EQ(parse_size("10"), 10);
  EXPECT_EQ(parse_size("0x10"), 16);
  EXPECT_EQ(parse_size("4K"), 4096);
  EXPECT_EQ(parse_size("4KiB"), 4096);
  EXPECT_EQ(parse_size("4kb"), 4000);
  EXPECT_EQ(parse_size("1.5M"), 1572864);
  EXPECT_EQ(parse_size("7E"), 8070450532247928832);
  for (const char* text : {"", "x", "-1", "1X", "1.5", "8E", "99999999999999999999", "1KBx"}) {
    EXPECT_EQ(parse_size(text), std::nullopt) << text;
  }
}

TEST(Limits, AreSecondsThatATimerTakesOrNot)
{
  const auto half = parse_limit("1.5");
  ASSERT_TRUE(half);
  EXPECT_EQ(half->whole.count(), 1);
  EXPECT_EQ(half->fraction.count(), 500000);
  EXPECT_TRUE(parse_limit("0")->is_zero());
  EXPECT_FALSE(parse_limit("-1")->is_possible());
  EXPECT_FALSE(parse_limit("inf")->is_possible());
  EXPECT_FALSE(parse_limit("nan")->is_possible());
  EXPECT_FALSE(parse_limit("1s"));
  EXPECT_FALSE(parse_limit(""));
}

} // namespace
} // namespace lockrun::flock
