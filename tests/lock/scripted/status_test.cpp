#include <lockrun/status.hpp>

#include "support/fake_sys.hpp"
#include "sys/lock.hpp"
#include "sys/proc.hpp"

#include <vector>

#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

class Asking : public ::testing::Test {
protected:
  Asking()
  {
    request.path = "/x";
    lock.pid = 6;
    lock.device_minor = 1; // of the file that FakeSys shows
    lock.inode = 1;
    lock.end = INT64_MAX;
  }

  FakeSys kernel;
  LockRequest request;
  sys::LockLine lock;
};

TEST_F(Asking, ALockThatIsHeldByNobodyWhoIsSeenIsLookedAtAgain)
{
  kernel.answers("flock", sys::Attempt::busy);
  kernel.answers("all_locks_checked", sys::LockList{});
  kernel.answers("all_locks_checked", sys::LockList{{lock}, true});
  kernel.answers("descriptors_of", std::vector<int>{3});
  kernel.answers("descriptor_info", sys::DescriptorInfo{0, 0, 1, {lock}});
  const auto told = status(request).value();
  EXPECT_EQ(told.state, LockState::exclusive);
  ASSERT_EQ(told.holders.size(), 1U);
  EXPECT_EQ(told.holders.front().pid, lock.pid);
}

TEST_F(Asking, ALockThatStaysHeldByNobodyWhoIsSeenIsHeld)
{
  for (int i = 0; i < 4; ++i) { kernel.answers("flock", sys::Attempt::busy); }
  EXPECT_EQ(status(request).value().state, LockState::held);
  EXPECT_EQ(kernel.calls("all_locks_checked").size(), 4U);
}

} // namespace
} // namespace lockrun::testing
