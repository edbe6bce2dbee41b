#include "kernel/queue.hpp"

#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "sys/file.hpp"
#include "sys/signal.hpp"

#include <cerrno>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using kernel::Queued;
using kernel::QueuePlace;
using kernel::WaitingPlace;
using sys::Attempt;

sys::Descriptor open_file(const std::filesystem::path& path)
{
  return std::move(*sys::open(path.c_str(), O_RDWR | O_CREAT, 0666));
}

// A process that enters the queue, waits for its turn, and has it until it is let go.
class Queuer {
public:
  explicit Queuer(const std::filesystem::path& path, const std::function<void()>& once_inside = {})
    : m_process([&, path] {
        const auto fd = open_file(path);
        QueuePlace place(fd);
        if (place.enter() != Attempt::acquired) { return 1; }
        if (once_inside) { once_inside(); }
        m_entered.give();
        if (place.wait_turn() != Attempt::acquired) { return 2; }
        m_turn.give();
        m_end.await();
        place.leave();
        m_left.give();
        m_end.await(); // the end of the process would free the byte, too
        return 0;
      })
  {}

  pid_t pid() const { return m_process.pid(); }
  bool has_entered() const { return m_entered.await(); }
  bool has_its_turn() const { return m_turn.await(); }
  bool waits(const std::filesystem::path& path) const // behind exactly one byte
  {
    return eventually([&] {
      for (const auto& line : kernel_locks(path)) {
        if (line.waits && line.pid == pid()) { return true; }
      }
      return false;
    });
  }
  bool leave()
  {
    m_end.give();
    return m_left.await();
  }
  void kill() { (void)m_process.kill(); }
  Forked& process() { return m_process; }

private:
  Notice m_entered;
  Notice m_turn;
  Notice m_left;
  Notice m_end;
  Forked m_process;
};

class Queue : public ::testing::Test {
protected:
  // The number of the byte that `pid` has locked in the queue; -1 if none.
  std::int64_t number_of(pid_t pid) const
  {
    for (const auto& line : kernel_holders(path)) {
      if (line.api == "POSIX" && line.pid == pid && std::stoll(line.start) >= kernel::k_queue) {
        EXPECT_EQ(line.start, line.end);
        EXPECT_EQ(line.mode, "WRITE");
        return std::stoll(line.start) - kernel::k_queue;
      }
    }
    return -1;
  }
  std::unique_ptr<Queuer> enter(const std::function<void()>& once_inside = {})
  {
    auto queuer = std::make_unique<Queuer>(path, once_inside);
    EXPECT_TRUE(queuer->has_entered());
    return queuer;
  }

  const TempDir dir;
  const std::filesystem::path path = dir / "lock";
};

TEST_F(Queue, LayoutIsFixedForEver)
{
  EXPECT_EQ(Range{}.start + Range{}.length, kernel::k_door);
  EXPECT_EQ(kernel::k_door, 4611686018427387904);
  EXPECT_EQ(kernel::k_first_slot, 4611686018428436480);
  EXPECT_EQ(kernel::k_first_waiting_place, 4611686018429485056);
  EXPECT_EQ(kernel::k_queue, 4611687117939015680);
}

TEST_F(Queue, NumbersGoUpAndStartAgainWhenItIsEmpty)
{
  const auto fd = open_file(path);
  EXPECT_EQ(kernel::look_at_queue(fd), Queued::nobody);
  const auto first = enter();
  const auto second = enter();
  const auto third = enter();
  EXPECT_EQ(kernel::look_at_queue(fd), Queued::somebody);
  EXPECT_EQ(number_of(first->pid()), 0);
  EXPECT_EQ(number_of(second->pid()), 1);
  EXPECT_EQ(number_of(third->pid()), 2);
  EXPECT_TRUE(first->leave());
  EXPECT_TRUE(second->has_its_turn());
  const auto fourth = enter();
  EXPECT_EQ(number_of(fourth->pid()), 3);
  for (const auto* queuer : {&first, &second, &third, &fourth}) { (*queuer)->kill(); }
  EXPECT_EQ(kernel::look_at_queue(fd), Queued::nobody);
  EXPECT_EQ(number_of(enter()->pid()), 0);
}

TEST_F(Queue, TheDoorIsLeftOpen)
{
  const auto first = enter();
  for (const auto& line : kernel_locks(path)) { EXPECT_NE(line.start, std::to_string(kernel::k_door)); }
}

TEST_F(Queue, TurnsComeInOrderAndWakeOneWaiterEach)
{
  std::vector<std::unique_ptr<Queuer>> all;
  for (int i = 0; i < 5; ++i) {
    all.push_back(enter());
    if (i > 0) { EXPECT_TRUE(all.back()->waits(path)); }
  }
  // Each waits for the byte of its own, so that nobody else hears of it.
  for (const auto& line : kernel_locks(path)) {
    if (line.waits) { EXPECT_EQ(std::stoll(line.start) - kernel::k_queue, number_of(line.pid) - 1); }
  }
  for (const auto& queuer : all) {
    EXPECT_TRUE(queuer->has_its_turn());
    EXPECT_TRUE(queuer->leave());
  }
}

TEST_F(Queue, AKilledWaiterIsSkippedButNotWhoIsBeforeIt)
{
  const auto first = enter();
  const auto second = enter();
  const auto third = enter();
  const auto fourth = enter();
  EXPECT_TRUE(fourth->waits(path));
  second->kill();
  third->kill();
  EXPECT_TRUE(eventually([&] {
    for (const auto& line : kernel_locks(path)) {
      if (line.waits && line.pid == fourth->pid()) {
        return std::stoll(line.start) - kernel::k_queue == number_of(first->pid());
      }
    }
    return false;
  }));
  EXPECT_TRUE(first->leave());
  EXPECT_TRUE(fourth->has_its_turn());
}

TEST_F(Queue, AnInterruptionKeepsThePlace)
{
  const auto first = enter();
  Notice interrupted;
  Notice turn;
  Forked waiter([&] {
    (void)sys::set_interrupting(SIGUSR1);
    const auto fd = open_file(path);
    QueuePlace place(fd);
    if (place.enter() != Attempt::acquired || place.wait_turn() != Attempt::interrupted) { return 1; }
    const auto number = place.number();
    interrupted.give();
    if (place.enter() != Attempt::acquired || place.number() != number) { return 2; }
    if (place.wait_turn() != Attempt::acquired) { return 3; }
    turn.give();
    return 0;
  });
  ASSERT_TRUE(eventually([&] { return kernel_waiters(path) == 1; }));
  waiter.signal(SIGUSR1);
  EXPECT_TRUE(interrupted.await());
  const auto third = enter();
  EXPECT_EQ(number_of(third->pid()), 2);
  EXPECT_TRUE(first->leave());
  EXPECT_TRUE(turn.await());
  EXPECT_EQ(waiter.wait(), exited(0));
}

TEST_F(Queue, WhoHoldsTheDoorKeepsOthersFromArriving)
{
  HoldingProcess in_the_door(path, Mode::exclusive, LockKind::posix, {kernel::k_door, 1});
  Queuer first(path);
  Queuer second(path);
  ASSERT_TRUE(eventually([&] { return kernel_waiters(path) == 2; }));
  EXPECT_EQ(kernel::look_at_queue(open_file(path)), Queued::nobody);
  in_the_door.kill();
  EXPECT_TRUE(first.has_entered());
  EXPECT_TRUE(second.has_entered());
}

// Numbers far apart, as after a long time in which the queue was never empty and most have left it.
TEST_F(Queue, TheHighestNumberIsFoundWhereverItIs)
{
  for (const std::vector<std::int64_t>& taken : std::vector<std::vector<std::int64_t>>{
         {0}, {5}, {0, 1, 2, 3}, {0, 7, 1000, 1'000'000'000'000}, {1'000'000'000'000, 3, 70, 0}, {999, 1, 1000}}) {
    std::vector<std::unique_ptr<HoldingProcess>> others;
    std::int64_t highest = 0;
    for (const std::int64_t number : taken) {
      others.push_back(
        std::make_unique<HoldingProcess>(path, Mode::exclusive, LockKind::posix, Range{kernel::k_queue + number, 1}));
      highest = std::max(highest, number);
    }
    EXPECT_EQ(number_of(enter()->pid()), highest + 1);
  }
}

TEST_F(Queue, ALockOfAnotherProgramOverAllNumbersIsAnError)
{
  const HoldingProcess other(path, Mode::exclusive, LockKind::posix, {kernel::k_queue, 0});
  const auto fd = open_file(path);
  QueuePlace place(fd);
  EXPECT_EQ(place.enter().error().code, EOVERFLOW);
  for (const auto& line : kernel_locks(path)) { EXPECT_NE(line.start, std::to_string(kernel::k_door)); }
}

// fcntl(2): "If a process closes any file descriptor referring to a file, then all of the process's locks on that file
// are released". This is why nobody may open and close the lock file while he stands here.
TEST_F(Queue, ThePlaceIsLostWhenASecondDescriptorOfTheFileIsClosed)
{
  const auto first = enter();
  const auto careless = enter([this] { (void)open_file(path); });
  const auto third = enter();
  EXPECT_EQ(number_of(careless->pid()), -1);
  EXPECT_EQ(number_of(third->pid()), 1);
  EXPECT_TRUE(first->leave());
  EXPECT_TRUE(third->has_its_turn());
  EXPECT_TRUE(careless->has_its_turn()); // both at once
}

TEST_F(Queue, NoChildInheritsAPlace)
{
  const auto fd = open_file(path);
  auto place = std::make_unique<QueuePlace>(fd);
  ASSERT_EQ(place->enter(), Attempt::acquired);
  Gate gate;
  Forked child([&] {
    gate.wait();
    return 0;
  });
  place->leave();
  EXPECT_TRUE(kernel_locks(path).empty());
  gate.open();
  EXPECT_EQ(child.wait(), exited(0));
}

// --- where there can be a queue ---

TEST_F(Queue, LocalFileSystemsKeepTheKindsOfLockApart)
{
  for (const char* const directory : {"/var/tmp", "/dev/shm"}) {
    const TempDir place{directory};
    const auto fd = open_file(place / "lock");
    EXPECT_EQ(kernel::locks_on(fd), kernel::Locks::separate);
    // And so it is.
    ASSERT_EQ(sys::flock(fd, Mode::exclusive, Wait::never), Attempt::acquired);
    EXPECT_EQ(sys::posix_conflict(fd, Mode::exclusive, {0, 0}), std::nullopt);
  }
}

// --- waiting places ---

// All with one descriptor, as a shell's that several of its jobs wait with.
class WaitingPlaces : public Queue {
protected:
  // What another process gets.
  Attempt try_elsewhere(int limit) const
  {
    const WaitStatus status = Forked([&] { return static_cast<int>(*WaitingPlace(fd).take(limit)); }).wait();
    EXPECT_EQ(status.kind, WaitStatus::Kind::exited);
    return static_cast<Attempt>(status.value);
  }

  const sys::Descriptor fd = open_file(path);
};

TEST_F(WaitingPlaces, AreAsManyAsTheCallerSays)
{
  const Notice taken;
  const Notice end;
  WaitingPlace first(fd);
  EXPECT_EQ(first.take(0), Attempt::busy);
  EXPECT_EQ(first.take(2), Attempt::acquired);
  EXPECT_EQ(first.take(2), Attempt::acquired); // the same one
  EXPECT_EQ(try_elsewhere(1), Attempt::busy);
  Forked second([&] {
    WaitingPlace place(fd);
    if (place.take(2) != Attempt::acquired) { return 1; }
    taken.give();
    return end.await() ? 0 : 2;
  });
  ASSERT_TRUE(taken.await());
  EXPECT_EQ(try_elsewhere(2), Attempt::busy);
  EXPECT_EQ(kernel_locks(path).size(), 2U);
  first.leave();
  EXPECT_EQ(try_elsewhere(2), Attempt::acquired);
  end.give();
  EXPECT_EQ(second.wait(), exited(0));
}

TEST_F(WaitingPlaces, AreFreeWhenTheirOwnersAreKilled)
{
  const Notice taken;
  const Notice end;
  Forked owner([&] {
    WaitingPlace place(fd);
    if (place.take(1) != Attempt::acquired) { return 1; }
    taken.give();
    return end.await() ? 0 : 2;
  });
  ASSERT_TRUE(taken.await());
  WaitingPlace place(fd);
  EXPECT_EQ(place.take(1), Attempt::busy);
  (void)owner.kill();
  EXPECT_EQ(place.take(1), Attempt::acquired);
}

// Versions that took ofd locks meet this one in the same bytes.
TEST_F(WaitingPlaces, MayBeTakenWithOfdLocks)
{
  const auto other = open_file(path);
  ASSERT_EQ(sys::ofd_lock(other, Mode::exclusive, {kernel::k_first_waiting_place, 1}, Wait::never), Attempt::acquired);
  WaitingPlace place(fd);
  EXPECT_EQ(place.take(1), Attempt::busy);
  EXPECT_EQ(place.take(2), Attempt::acquired);
}

} // namespace
} // namespace lockrun::testing
