// Not more than so many wait, counted by the kernel.

#include "contract/contender.hpp"
#include "support/eventually.hpp"
#include "support/kernel_locks.hpp"
#include "support/shared.hpp"
#include "support/temp_dir.hpp"

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

constexpr auto k_granted = std::optional<Reason>();

// With each way to wait.
class MaxWaiters : public ::testing::TestWithParam<Backend> {
protected:
  LockRequest request(std::optional<int> limit) const
  {
    LockRequest request = request_for(GetParam(), path);
    request.max_waiters = limit;
    return request;
  }
  bool has_waiters(int count) const
  {
    return eventually([&] { return kernel_waiters(path) == count; });
  }

  const TempDir dir;
  const std::filesystem::path path = dir / "lock";
};
INSTANTIATE_TEST_SUITE_P(
  Every, MaxWaiters, ::testing::ValuesIn(k_backends), [](const auto& row) { return std::string(row.param.name); });

TEST_P(MaxWaiters, NobodyJoinsThoseWhoWaitAlready)
{
  Contender holder(request(1));
  ASSERT_TRUE(holder.has_it());
  Contender first(request(1));
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(Contender(request(1)).outcome(), Reason::too_many_waiters);
  EXPECT_EQ(try_once(request(1)), Reason::busy);
  Contender second(request(2));
  ASSERT_TRUE(has_waiters(2));
  EXPECT_EQ(Contender(request(2)).outcome(), Reason::too_many_waiters);
  EXPECT_EQ(holder.outcome(), k_granted);
  EXPECT_EQ(first.outcome(), k_granted);
  EXPECT_EQ(second.outcome(), k_granted);
}

TEST_P(MaxWaiters, ZeroNeverWaits)
{
  EXPECT_EQ(Contender(request(0)).outcome(), k_granted);
  Contender holder(request(0));
  ASSERT_TRUE(holder.has_it());
  EXPECT_EQ(Contender(request(0)).outcome(), Reason::too_many_waiters);
}

TEST_P(MaxWaiters, CallersWithoutTheOptionAreNotCounted)
{
  Contender holder(request({}));
  ASSERT_TRUE(holder.has_it());
  Contender uncounted(request({}));
  ASSERT_TRUE(has_waiters(1));
  Contender counted(request(1));
  ASSERT_TRUE(has_waiters(2));
  EXPECT_EQ(Contender(request(1)).outcome(), Reason::too_many_waiters);
  EXPECT_EQ(holder.outcome(), k_granted);
  EXPECT_EQ(uncounted.outcome(), k_granted);
  EXPECT_EQ(counted.outcome(), k_granted);
}

// What comes while the command runs must lead to one more run.
TEST_P(MaxWaiters, ThePlaceIsFreeBeforeItsOwnersCommandStarts)
{
  Contender holder(request(1));
  ASSERT_TRUE(holder.has_it());
  Contender waiter(request(1));
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(holder.outcome(), k_granted);
  ASSERT_TRUE(waiter.has_it());
  Contender next(request(1));
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(waiter.outcome(), k_granted);
  EXPECT_EQ(next.outcome(), k_granted);
}

TEST_P(MaxWaiters, ThePlaceOfOneWhoIsKilledOrGivesUpIsFree)
{
  Contender holder(request(1));
  ASSERT_TRUE(holder.has_it());
  Contender doomed(request(1));
  ASSERT_TRUE(has_waiters(1));
  doomed.kill();
  Contender impatient(waiting_at_most(request(1), std::chrono::milliseconds(2)));
  EXPECT_EQ(impatient.outcome(), Reason::timed_out);
  Contender waiter(request(1));
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(holder.outcome(), k_granted);
  EXPECT_EQ(waiter.outcome(), k_granted);
  EXPECT_TRUE(kernel_locks(path).empty());
}

TEST_P(MaxWaiters, HoldsUnderAStampede)
{
  constexpr int k_arrivals = 100;
  constexpr int k_limit = 7;
  Contender holder(request(k_limit));
  ASSERT_TRUE(holder.has_it());
  Gate gate;
  const Shared<std::atomic<int>> refused;
  std::vector<Forked> arrivals;
  for (int i = 0; i < k_arrivals; ++i) {
    arrivals.emplace_back([&] {
      gate.wait();
      const auto lock = acquire(request(k_limit), {});
      if (lock) { return 0; }
      if (lock.error().reason == Reason::too_many_waiters) { ++*refused; }
      return 1;
    });
  }
  gate.open();
  // As long as nobody is let in, no place becomes free.
  EXPECT_TRUE(eventually([&] { return *refused == k_arrivals - k_limit; }));
  EXPECT_EQ(holder.outcome(), k_granted);
  int served = 0;
  for (Forked& arrival : arrivals) { served += arrival.wait() == exited(0) ? 1 : 0; }
  EXPECT_EQ(served, k_limit);
  EXPECT_EQ(*refused, k_arrivals - k_limit);
}

} // namespace
} // namespace lockrun::testing
