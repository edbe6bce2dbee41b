#include "sys/clock.hpp"

#include <chrono>

#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

TEST(Clock, NeverGoesBack)
{
  const auto steady = sys::steady_now();
  const auto elapsed = sys::elapsed_now();
  EXPECT_GT(steady.count(), 0);
  EXPECT_GE(sys::steady_now(), steady);
  EXPECT_GE(sys::elapsed_now(), elapsed);
  EXPECT_GE(sys::elapsed_now(), steady); // it counts what the steady one counts, and suspensions
}

TEST(Clock, KnowsTheYear)
{
  EXPECT_GT(sys::wall_now(), std::chrono::hours(24) * 365 * 50);
}

} // namespace
} // namespace lockrun::testing
