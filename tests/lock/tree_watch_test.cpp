#include "lock/tree_watch.hpp"

#include "kernel/queue.hpp"
#include "lock/nested.hpp"
#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/temp_dir.hpp"
#include "sys/clock.hpp"
#include "sys/file.hpp"

#include <chrono>
#include <optional>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

class TreeWatching : public ::testing::Test {
protected:
  TreeWatching() { plan.detect_deadlock = true; }

  Patience patience_until(Deadline deadline)
  {
    Patience patience{plan, began, deadline};
    patience.look_at_tree = [&] {
      ++looks;
      return tree;
    };
    return patience;
  }

  // Nobody else's, then.
  static std::optional<LookTurn> turn()
  {
    std::optional<LookTurn> taken;
    EXPECT_TRUE(eventually([&] {
      taken = LookTurn::at_tree();
      return taken.has_value();
    }));
    return taken;
  }

  WaitPlan plan;
  TreeLook tree;
  int looks = 0;
  const nanoseconds began = sys::steady_now();
};

TEST_F(TreeWatching, IsForThoseWhoAskForIt)
{
  plan.detect_deadlock = false;
  EXPECT_FALSE(TreeWatch(patience_until({}), began).next());
}

TEST_F(TreeWatching, HasTimeUntilTheWaitIsLong)
{
  const Patience patience = patience_until({});
  EXPECT_EQ(TreeWatch(patience, began).next(), began + std::chrono::milliseconds(200));
  const Patience short_one = patience_until(began + std::chrono::milliseconds(50));
  EXPECT_EQ(TreeWatch(short_one, began).next(), began + std::chrono::milliseconds(40));
}

TEST_F(TreeWatching, WaitsForItsTurnAndLooksOnce)
{
  const Patience patience = patience_until({});
  TreeWatch watch(patience, began);
  auto others = turn();
  EXPECT_FALSE(watch.look());
  EXPECT_EQ(looks, 0);
  others.reset();
  for (int i = 0; i < 20; ++i) { EXPECT_FALSE(watch.look()); }
  EXPECT_EQ(looks, 1);
}

TEST_F(TreeWatching, KeepsItsTurnForAWhile)
{
  const Patience patience = patience_until({});
  std::optional<TreeWatch> watch;
  ASSERT_TRUE(eventually([&] { // until it is nobody else's turn
    watch.emplace(patience, began);
    looks = 0;
    EXPECT_FALSE(watch->look());
    return looks == 1;
  }));
  EXPECT_LT(watch->next(), sys::steady_now() + seconds(30)); // to give it back
  EXPECT_FALSE(watch->look());
  EXPECT_GT(watch->next(), sys::steady_now() + seconds(30)); // to look again, which can hardly be of use
  EXPECT_TRUE(turn());
}

// Whoever has the turn may have been stopped.
TEST_F(TreeWatching, DoesNotWaitForItsTurnForEver)
{
  const Patience patience = patience_until({});
  TreeWatch watch(patience, began);
  const auto others = turn();
  for (int i = 0; i < 20; ++i) { EXPECT_FALSE(watch.look()); }
  EXPECT_EQ(looks, 1);
}

TEST_F(TreeWatching, DoesNotWaitForItsTurnWhenTheTimeIsUp)
{
  tree.in_the_way = Party{4312, "holder", {}};
  const Patience patience = patience_until(began);
  TreeWatch watch(patience, began);
  const auto others = turn();
  const auto finding = watch.look();
  ASSERT_TRUE(finding);
  EXPECT_EQ(finding->reason, Reason::nested);
  EXPECT_EQ(finding->parties.at(0).pid, 4312);
}

// A lockrun that has adopted us may wait for us once its command has ended.
TEST_F(TreeWatching, LooksAgainWhereTheAnswerMayChange)
{
  tree.may_change = true;
  const Patience patience = patience_until({});
  std::optional<TreeWatch> watch;
  ASSERT_TRUE(eventually([&] { // until it is no other process's turn
    watch.emplace(patience, began);
    looks = 0;
    EXPECT_FALSE(watch->look());
    return looks == 1;
  }));
  tree.in_the_way = Party{4312, "holder", {}};
  std::optional<Error> finding;
  ASSERT_TRUE(eventually([&] {
    if (sys::steady_now() >= *watch->next()) { finding = watch->look(); }
    return finding.has_value();
  }));
  EXPECT_EQ(finding->reason, Reason::nested);
  EXPECT_EQ(looks, 2);
}

// --- what counts as something that our tree holds

class TreeHas : public ::testing::Test {
protected:
  bool anything() const { return locks_of_tree(file, {}).has_any; }

  const TempDir dir;
  const sys::Descriptor file = sys::open((dir / "file").c_str(), O_RDWR | O_CREAT, 0600).value();
};

TEST_F(TreeHas, SomethingWithALock)
{
  const HeldLock other(dir / "other");
  EXPECT_TRUE(anything());
}

TEST_F(TreeHas, NothingMoreWithATurnToLook)
{
  const bool before = anything();
  std::optional<LookTurn> at_tree;
  std::optional<LookTurn> at_locks;
  ASSERT_TRUE(eventually([&] { return (at_tree = LookTurn::at_tree()).has_value(); }));
  ASSERT_TRUE(eventually([&] { return (at_locks = LookTurn::at_locks()).has_value(); }));
  EXPECT_EQ(anything(), before);
}

TEST_F(TreeHas, NothingMoreWithAPlaceInAQueue)
{
  const bool before = anything();
  kernel::QueuePlace place(file);
  ASSERT_EQ(place.enter(), sys::Attempt::acquired);
  EXPECT_EQ(anything(), before);
}

} // namespace
} // namespace lockrun::testing
