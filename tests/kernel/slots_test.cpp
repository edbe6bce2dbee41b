#include "kernel/slots.hpp"

#include "kernel/queue.hpp"
#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "sys/file.hpp"
#include "sys/lock.hpp"
#include "sys/signal.hpp"

#include <cerrno>
#include <memory>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using Slot = std::optional<int>;

class Slots : public ::testing::Test {
protected:
  sys::Descriptor open_file() const { return std::move(*sys::open(path.c_str(), O_RDWR | O_CREAT, 0666)); }
  std::unique_ptr<HeldLock> hold(int slot) const
  {
    return std::make_unique<HeldLock>(path, Mode::exclusive, LockKind::ofd, kernel::byte_of_slot(slot));
  }
  bool has_waiters(int count) const
  {
    return eventually([&] { return kernel_waiters(path) == count; });
  }
  int locked() const { return static_cast<int>(kernel_holders(path).size()); }

  const TempDir dir;
  const std::filesystem::path path = dir / "lock";
};

// What wait_slot() says in a process of its own, which ends when it is let go.
class SlotWaiter {
public:
  SlotWaiter(const std::filesystem::path& path, int count)
    : m_process([&, path, count] {
        (void)sys::set_interrupting(sys::wake_signal()); // who interrupts may do so once more than needed
        const auto fd = sys::open(path.c_str(), O_RDWR);
        const auto slot = kernel::wait_slot(*fd, count);
        m_answered.give();
        m_end.await();
        return !slot ? 101 : *slot ? **slot : 100;
      })
  {}
  void interrupt() { m_process.signal(sys::wake_signal()); }
  bool has_answer() const { return m_answered.await(); }
  Slot outcome()
  {
    m_end.give();
    const WaitStatus status = m_process.wait();
    return status.value == 100 ? Slot() : Slot(status.value);
  }
  Forked& process() { return m_process; }

private:
  Notice m_answered;
  Notice m_end;
  Forked m_process;
};

TEST_F(Slots, TheLowestFreeOneIsTaken)
{
  const auto fd1 = open_file();
  const auto fd2 = open_file();
  const auto fd3 = open_file();
  EXPECT_EQ(*kernel::try_slot(fd1, 2), Slot(0));
  EXPECT_EQ(*kernel::try_slot(fd2, 2), Slot(1));
  EXPECT_EQ(*kernel::try_slot(fd3, 2), Slot());
  ASSERT_TRUE(kernel::free_slot(fd1, 0));
  EXPECT_EQ(*kernel::try_slot(fd3, 2), Slot(0));
}

TEST_F(Slots, EachCallerLooksAtItsOwnNumberOfThem)
{
  const auto first = hold(0);
  const auto fd = open_file();
  EXPECT_EQ(*kernel::try_slot(fd, 1), Slot());
  EXPECT_EQ(*kernel::try_slot(fd, kernel::k_most_slots), Slot(1));
}

TEST_F(Slots, AFreeOneIsNotWaitedFor)
{
  const auto first = hold(0);
  const auto fd = open_file();
  EXPECT_EQ(*kernel::wait_slot(fd, 2), Slot(1));
}

TEST_F(Slots, AnyThatBecomesFreeEndsTheWait)
{
  constexpr int k_count = 4;
  for (int freed = 0; freed < k_count; ++freed) {
    std::vector<std::unique_ptr<HeldLock>> held;
    for (int slot = 0; slot < k_count; ++slot) { held.push_back(hold(slot)); }
    SlotWaiter waiter(path, k_count);
    ASSERT_TRUE(has_waiters(k_count));
    held[static_cast<std::size_t>(freed)]->release();
    ASSERT_TRUE(waiter.has_answer());
    EXPECT_EQ(kernel_waiters(path), 0);
    EXPECT_EQ(locked(), k_count);
    EXPECT_EQ(waiter.outcome(), Slot(freed));
  }
}

TEST_F(Slots, OfSeveralThatBecomeFreeOneIsKept)
{
  constexpr int k_count = 4;
  for (int round = 0; round < 50; ++round) {
    std::vector<std::unique_ptr<HeldLock>> held;
    for (int slot = 0; slot < k_count; ++slot) { held.push_back(hold(slot)); }
    SlotWaiter waiter(path, k_count);
    ASSERT_TRUE(has_waiters(k_count));
    for (const auto& lock : held) { lock->release(); }
    ASSERT_TRUE(waiter.has_answer());
    EXPECT_EQ(locked(), 1);
    const Slot slot = waiter.outcome();
    ASSERT_TRUE(slot);
    EXPECT_LT(*slot, k_count);
    EXPECT_EQ(locked(), 0);
  }
}

TEST_F(Slots, AKilledHolderEndsTheWait)
{
  HoldingProcess holder(path, Mode::exclusive, LockKind::ofd, kernel::byte_of_slot(1));
  const auto other = hold(0);
  SlotWaiter waiter(path, 2);
  ASSERT_TRUE(has_waiters(2));
  holder.kill();
  EXPECT_EQ(waiter.outcome(), Slot(1));
}

TEST_F(Slots, OneThatBecomesFreeEndsTheWaitAlsoWhereTheKernelQueuesNoSignals)
{
  for (int freed = 0; freed < 2; ++freed) {
    std::vector<std::unique_ptr<HeldLock>> held;
    for (int slot = 0; slot < 2; ++slot) { held.push_back(hold(slot)); }
    SlotWaiter waiter(path, 2);
    const rlimit none{0, 0};
    ASSERT_EQ(::prlimit(waiter.process().pid(), RLIMIT_SIGPENDING, &none, nullptr), 0);
    ASSERT_TRUE(has_waiters(2));
    held[static_cast<std::size_t>(freed)]->release();
    ASSERT_TRUE(waiter.has_answer());
    EXPECT_EQ(waiter.outcome(), Slot(freed));
  }
}

TEST_F(Slots, AnInterruptionEndsTheWaitAndLeavesNothing)
{
  const auto first = hold(0);
  const auto second = hold(1);
  SlotWaiter waiter(path, 2);
  ASSERT_TRUE(has_waiters(2));
  ASSERT_TRUE(eventually([&] {
    waiter.interrupt();
    return kernel_waiters(path) == 0;
  }));
  EXPECT_EQ(waiter.outcome(), Slot());
  EXPECT_EQ(locked(), 2);
}

TEST_F(Slots, AWaiterThatIsKilledLeavesNothing)
{
  const auto first = hold(0);
  const auto second = hold(1);
  SlotWaiter waiter(path, 2);
  ASSERT_TRUE(has_waiters(2));
  (void)waiter.process().kill();
  EXPECT_EQ(kernel_waiters(path), 0);
  EXPECT_EQ(locked(), 2);
}

TEST_F(Slots, AreLookedAtAgainWhereThereCanBeNoThreads)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  ::chmod(dir.path().c_str(), 0777);
  const auto first = hold(0);
  auto second = hold(1);
  ::chmod(path.c_str(), 0666);
  Notice looked;
  Forked limited([&] {
    hostile::limit(RLIMIT_NPROC, 0)();
    hostile::become_user(k_nobody)(); // root has no limit
    const auto fd = open_file();
    const auto none = kernel::wait_slot(fd, 2);
    if (!none || *none) { return 1; }
    looked.give();
    Result<std::optional<int>> slot = std::nullopt;
    while (slot && !*slot) { slot = kernel::wait_slot(fd, 2); }
    return slot && **slot == 1 ? 0 : 2;
  });
  EXPECT_TRUE(looked.await());
  second.reset();
  EXPECT_EQ(limited.wait(), exited(0));
}

} // namespace
} // namespace lockrun::testing
