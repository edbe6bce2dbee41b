// First come, first served, whatever the mix of shared and exclusive.

#include "contract/contender.hpp"
#include "kernel/queue.hpp"
#include "support/eventually.hpp"
#include "support/kernel_locks.hpp"
#include "support/temp_dir.hpp"

#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

constexpr auto k_granted = std::optional<Reason>();

class Fair : public ::testing::Test {
protected:
  LockRequest request(Mode mode = Mode::exclusive) const
  {
    LockRequest request;
    request.path = path;
    request.mode = mode;
    request.fair = true;
    request.nested = Nested::wait;
    return request;
  }
  bool has_waiters(int count) const
  {
    return eventually([&] { return kernel_waiters(path) == count; });
  }
  // Adds a letter to the record; one after the other as they had the lock.
  std::function<void()> writes(char letter) const
  {
    return [record = dir / "order", letter] {
      const int fd = ::open(record.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
      (void)!::write(fd, &letter, 1); // a missing letter shows
      ::close(fd);
    };
  }
  std::string order() const { return read_file(dir / "order"); }

  const TempDir dir;
  const std::filesystem::path path = dir / "lock";
};

TEST_F(Fair, TheOrderOfArrivalIsKeptForAnyMix)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  std::vector<std::unique_ptr<Contender>> waiters;
  std::string groups; // a letter for each run of shared ones, who come in together
  char letter = 'A' - 1;
  Mode last = Mode::exclusive;
  int count = 0;
  for (const char kind : std::string("xssxxsssxsxxssssxxxs")) {
    const Mode mode = kind == 's' ? Mode::shared : Mode::exclusive;
    if (mode == Mode::exclusive || last == Mode::exclusive) { ++letter; }
    last = mode;
    groups += letter;
    waiters.push_back(std::make_unique<Contender>(request(mode), std::function<void()>(), writes(letter)));
    ASSERT_TRUE(has_waiters(++count));
  }
  EXPECT_EQ(holder.outcome(), k_granted);
  for (const auto& waiter : waiters) { EXPECT_EQ(waiter->outcome(), k_granted); }
  EXPECT_EQ(order(), groups);
}

TEST_F(Fair, SharedOnesThatFollowEachOtherAreInsideTogether)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  Contender first(request(Mode::shared));
  ASSERT_TRUE(has_waiters(1));
  Contender second(request(Mode::shared));
  ASSERT_TRUE(has_waiters(2));
  Contender writer(request());
  ASSERT_TRUE(has_waiters(3));
  Contender third(request(Mode::shared));
  ASSERT_TRUE(has_waiters(4));
  EXPECT_EQ(holder.outcome(), k_granted);
  EXPECT_TRUE(first.has_it() && second.has_it());
  EXPECT_TRUE(has_waiters(2)); // the writer, and behind it the third
  EXPECT_EQ(first.outcome(), k_granted);
  EXPECT_EQ(second.outcome(), k_granted);
  EXPECT_TRUE(writer.has_it());
  EXPECT_TRUE(has_waiters(1));
  EXPECT_EQ(writer.outcome(), k_granted);
  EXPECT_EQ(third.outcome(), k_granted);
}

TEST_F(Fair, AStreamOfReadersCannotStarveAWriter)
{
  Contender reader(request(Mode::shared));
  ASSERT_TRUE(reader.has_it());
  Contender writer(request());
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(try_once(request(Mode::shared)), Reason::busy); // somebody queues
  Contender late_reader(request(Mode::shared), {}, writes('r'));
  ASSERT_TRUE(has_waiters(2));
  EXPECT_EQ(reader.outcome(), k_granted);
  EXPECT_TRUE(writer.has_it());
  EXPECT_EQ(order(), "");
  EXPECT_EQ(writer.outcome(), k_granted);
  EXPECT_EQ(late_reader.outcome(), k_granted);
}

// The twin: without the queue the late reader is let in beside the first one.
TEST_F(Fair, AStreamOfReadersStarvesAWriterWithoutTheQueue)
{
  const auto plain = [&](Mode mode) {
    LockRequest same = request(mode);
    same.fair = false;
    return same;
  };
  Contender reader(plain(Mode::shared));
  ASSERT_TRUE(reader.has_it());
  Contender writer(plain(Mode::exclusive));
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(try_once(plain(Mode::shared)), k_granted);
}

TEST_F(Fair, NewcomersWhoNeverStopDoNotOvertake)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  std::vector<std::unique_ptr<Contender>> waiters;
  for (char letter = 'A'; letter <= 'H'; ++letter) {
    waiters.push_back(std::make_unique<Contender>(request(), std::function<void()>(), writes(letter)));
    ASSERT_TRUE(has_waiters(letter - 'A' + 1));
  }
  constexpr int k_newcomers = 6;
  std::vector<Forked> newcomers;
  for (int i = 0; i < k_newcomers; ++i) {
    newcomers.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        const auto lock = acquire(request(round % 2 == 0 ? Mode::shared : Mode::exclusive), {});
        if (!lock) { return 1; }
        writes('z')();
      }
      return 0;
    });
  }
  ASSERT_TRUE(has_waiters(8 + k_newcomers));
  EXPECT_EQ(holder.outcome(), k_granted);
  for (const auto& waiter : waiters) { EXPECT_EQ(waiter->outcome(), k_granted); }
  for (Forked& newcomer : newcomers) { EXPECT_EQ(newcomer.wait(), exited(0)); }
  EXPECT_EQ(order(), "ABCDEFGH" + std::string(k_newcomers * 20, 'z'));
}

TEST_F(Fair, OrdinaryUsersOfTheFileExcludeAndAreExcluded)
{
  HeldLock ordinary(path);
  EXPECT_EQ(try_once(request()), Reason::busy);
  Contender waiter(request());
  ASSERT_TRUE(has_waiters(1));
  ordinary.release();
  ASSERT_TRUE(waiter.has_it());
  EXPECT_FALSE(is_free(path));
  EXPECT_EQ(waiter.outcome(), k_granted);
  EXPECT_TRUE(is_free(path));
}

// Giving up at any stage leaves the place to the next one.
TEST_F(Fair, WhoGivesUpIsInNobodysWay)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  WaitPlan plan;
  ::sigaddset(&plan.ended_by, SIGTERM);
  Contender head(request(), hostile::block(SIGTERM), {}, plan);
  ASSERT_TRUE(has_waiters(1));
  Contender second(request(), hostile::block(SIGTERM), {}, plan);
  ASSERT_TRUE(has_waiters(2));
  Contender third(request());
  ASSERT_TRUE(has_waiters(3));
  second.signal(SIGTERM);
  EXPECT_EQ(second.outcome(), Reason::interrupted);
  ASSERT_TRUE(has_waiters(2));
  head.signal(SIGTERM);
  EXPECT_EQ(head.outcome(), Reason::interrupted);
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(holder.outcome(), k_granted);
  EXPECT_EQ(third.outcome(), k_granted);
  EXPECT_TRUE(kernel_locks(path).empty());
}

TEST_F(Fair, TheDoorIsWaitedForWithinTheLimit)
{
  const HoldingProcess stopped_on_its_way(path, Mode::exclusive, LockKind::posix, {kernel::k_door, 1});
  const HeldLock held(path);
  const auto lock = acquire(waiting_at_most(request(), std::chrono::milliseconds(5)), {});
  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().reason, Reason::timed_out);
}

TEST_F(Fair, TheCommandInheritsTheLockButNoPlace)
{
  Gate gate;
  auto lock = acquire(request(), {});
  ASSERT_TRUE(lock);
  Forked heir([&] {
    gate.wait();
    return 0;
  });
  const auto lines = kernel_locks(path);
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0].api, "FLOCK");
  gate.open();
  EXPECT_EQ(heir.wait(), exited(0));
}

// --- nested calls ---

TEST_F(Fair, AnAncestorsLockIsNotQueuedFor)
{
  const auto lock = acquire(request(), {});
  ASSERT_TRUE(lock);
  LockRequest nested = request();
  nested.nested = Nested::fail;
  EXPECT_EQ(Contender(nested).outcome(), Reason::nested);
  nested.nested = Nested::run;
  EXPECT_EQ(Contender(nested).outcome(), k_granted);
}

// A writer that queues waits for our ancestor, and our ancestor for us.
TEST_F(Fair, SharedInsideSharedGoesBeforeThoseWhoQueue)
{
  const auto lock = acquire(request(Mode::shared), {});
  ASSERT_TRUE(lock);
  Contender writer(request());
  ASSERT_TRUE(has_waiters(1));
  LockRequest nested = request(Mode::shared);
  nested.nested = Nested::fail;
  EXPECT_EQ(Contender(nested).outcome(), k_granted);
  writer.kill();
}

} // namespace
} // namespace lockrun::testing
