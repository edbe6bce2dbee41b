#include "engines/backoff.hpp"

#include <gtest/gtest.h>

namespace lockrun::engines {
namespace {

using std::chrono::milliseconds;

TEST(Backoff, DoublesUpToItsLimitAndIsCutByHalfAtMost)
{
  Backoff backoff(milliseconds(100), milliseconds(1'500));
  for (const int most : {100, 200, 400, 800, 1500, 1500}) {
    const milliseconds pause = backoff.next();
    EXPECT_LE(pause, milliseconds(most));
    EXPECT_GE(pause, milliseconds(most / 2));
  }
  EXPECT_LE(backoff.next(milliseconds(40)), milliseconds(40));
  backoff.reset();
  EXPECT_LE(backoff.next(), milliseconds(100));
}

TEST(Backoff, DiffersFromCallerToCaller)
{
  Backoff one(milliseconds(1'000'000), milliseconds(1'000'000));
  Backoff other(milliseconds(1'000'000), milliseconds(1'000'000));
  bool is_different = false;
  for (int i = 0; i < 3; ++i) { is_different = is_different || one.next() != other.next(); }
  EXPECT_TRUE(is_different);
}

} // namespace
} // namespace lockrun::engines
