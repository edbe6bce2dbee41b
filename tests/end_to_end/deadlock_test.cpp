// Circles of calls that wait for one another: section "Circles" of the manual.

#include "support/eventually.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;

// Calls that hold a lock each and then, all at once, wait for another one.
class Circle : public ::testing::TestWithParam<int> {
protected:
  Circle() { start.in = start.out = k_pipe; }

  std::string lock(std::size_t number) const { return (dir / ("lock" + std::to_string(number))).string(); }

  // Holds `first`, and waits for `second` when it is told to.
  void add(const std::string& first, const std::string& second)
  {
    const std::string script = "echo held; read go; exec \"$0\" \"$1\" echo ran";
    parties.emplace_back(lockrun_argv({first, "sh", "-c", script, lockrun_binary(), second}), start);
    EXPECT_EQ(parties.back().out_line(), "held");
  }

  void let_all_wait()
  {
    for (Process& party : parties) { party.write("\n"); }
  }

  TempDir dir;
  Start start;
  std::vector<Process> parties;
};

TEST_P(Circle, OneGivesUpAndTheOthersGoOn)
{
  const auto count = static_cast<std::size_t>(GetParam());
  for (std::size_t i = 0; i < count; ++i) { add(lock(i), lock((i + 1) % count)); }
  let_all_wait();
  std::vector<WaitStatus> ends;
  std::string told;
  for (Process& party : parties) {
    const Finished finished = party.wait();
    ends.push_back(finished.status);
    told += finished.err;
  }
  EXPECT_EQ(std::count(ends.begin(), ends.end(), exited(75)), 1);
  EXPECT_EQ(std::count(ends.begin(), ends.end(), exited(0)), GetParam() - 1);
  for (std::size_t i = 0; i < count; ++i) { EXPECT_THAT(told, HasSubstr("waits for '" + lock(i) + "'")); }
  EXPECT_THAT(told, HasSubstr(std::to_string(count) + " processes wait for one another in a circle"));
}

INSTANTIATE_TEST_SUITE_P(
  Of, Circle, ::testing::Values(2, 3, 5), [](const auto& count) { return std::to_string(count.param); });

// The same without a circle: the last one's lock is free in the end, and nobody gives up.
TEST_P(Circle, AChainIsNone)
{
  const auto count = static_cast<std::size_t>(GetParam());
  for (std::size_t i = 0; i < count; ++i) { add(lock(i), lock(i + 1)); }
  Process last(lockrun_argv({lock(count), "sh", "-c", "echo held; read go"}), start);
  ASSERT_EQ(last.out_line(), "held");
  let_all_wait();
  for (std::size_t i = 1; i <= count; ++i) {
    ASSERT_TRUE(eventually([&] { return kernel_waiters(lock(i)) == 1; }));
  }
  // Long enough for two looks of each, as the twin above shows: the observer is a circle of its own.
  std::vector<Process> chain = std::move(parties);
  parties.clear();
  add(dir / "a", dir / "b");
  add(dir / "b", dir / "a");
  let_all_wait();
  for (Process& party : parties) { (void)party.wait(); }
  last.write("\n");
  EXPECT_EQ(last.wait().status, exited(0));
  for (Process& party : chain) { EXPECT_EQ(party.wait().status, exited(0)); }
}

} // namespace
} // namespace lockrun::testing
