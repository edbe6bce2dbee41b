#include "lock/hinted_look.hpp"

#include "support/held_lock.hpp"
#include "support/temp_dir.hpp"
#include "sys/file.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

class HintedLook : public ::testing::Test {
protected:
  sys::FileIdentity file() const { return sys::stat(request.path.c_str()).value().identity; }

  const TempDir dir;
  LockRequest request = [this] {
    LockRequest made;
    made.path = dir / "lock";
    return made;
  }();
  HoldingProcess holder{request.path};
};

TEST_F(HintedLook, LeavesAHint)
{
  const auto seen = look_or_take_hint(request);
  ASSERT_TRUE(seen);
  EXPECT_EQ(HolderHint::find(file()), holder.pid());
}

TEST_F(HintedLook, TakesTheHintOfAnother)
{
  EXPECT_FALSE(look_at_hint(request));
  const HolderHint hint = HolderHint::leave(file(), holder.pid());
  const auto seen = look_at_hint(request);
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->state, LockState::exclusive);
  ASSERT_EQ(seen->holders.size(), 1U);
  EXPECT_EQ(seen->holders.front().pid, holder.pid());
  EXPECT_FALSE(seen->holders.front().command.empty());
}

TEST_F(HintedLook, IsNotDeceivedByAWrongHint)
{
  const HolderHint hint = HolderHint::leave(file(), ::getpid());
  EXPECT_FALSE(look_at_hint(request));
  const auto seen = look_or_take_hint(request);
  ASSERT_TRUE(seen);
  ASSERT_EQ(seen->status.holders.size(), 1U);
  EXPECT_EQ(seen->status.holders.front().pid, holder.pid());
}

// Others may share it, of whom the hint does not know.
TEST_F(HintedLook, LeavesNoHintAtSharedLocks)
{
  holder.release();
  const HoldingProcess sharer(request.path, Mode::shared);
  const auto seen = look_or_take_hint(request);
  ASSERT_TRUE(seen);
  ASSERT_EQ(seen->status.holders.size(), 1U);
  EXPECT_FALSE(HolderHint::find(file()));
  const HolderHint hint = HolderHint::leave(file(), sharer.pid());
  EXPECT_FALSE(look_at_hint(request));
}

TEST_F(HintedLook, LookingAgainSeesWhetherTheHolderIsStillThere)
{
  const LockStatus before = look(request);
  const auto same = look_again(request, before);
  ASSERT_TRUE(same);
  ASSERT_EQ(same->holders.size(), 1U);
  EXPECT_EQ(same->holders.front().pid, holder.pid());
  EXPECT_EQ(same->holders.front().command, before.holders.front().command);
  holder.release();
  EXPECT_FALSE(look_again(request, before));
  EXPECT_FALSE(look_again(request, LockStatus()));
}

} // namespace
} // namespace lockrun::testing
