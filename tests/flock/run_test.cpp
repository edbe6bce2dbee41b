#include "flock/run.hpp"

#include <gtest/gtest.h>

namespace lockrun::flock {
namespace {

TEST(IsCalledAsFlock, LooksAtTheLastPartOfTheName)
{
  for (const char* name : {"flock", "/usr/bin/flock", "./flock", "flock/flock", "//flock"}) {
    EXPECT_TRUE(is_called_as_flock(name)) << name;
  }
  for (const char* name :
    {"lockrun", "/flock/lockrun", "flock/", "flockx", "xflock", "-flock", "FLOCK", "flock ", ""}) {
    EXPECT_FALSE(is_called_as_flock(name)) << name;
  }
  EXPECT_FALSE(is_called_as_flock(nullptr));
}

} // namespace
} // namespace lockrun::flock
