// So many at once and no more, each with a number of its own.

#include "contract/contender.hpp"
#include "kernel/slots.hpp"
#include "support/eventually.hpp"
#include "support/kernel_locks.hpp"
#include "support/shared.hpp"
#include "support/temp_dir.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

constexpr auto k_granted = std::optional<Reason>();

class Slots : public ::testing::Test {
protected:
  LockRequest request(int slots) const
  {
    LockRequest request;
    request.path = path;
    request.slots = slots;
    request.nested = Nested::wait;
    return request;
  }
  LockRequest plain(Mode mode = Mode::exclusive) const
  {
    LockRequest request;
    request.path = path;
    request.mode = mode;
    request.nested = Nested::wait;
    return request;
  }
  std::unique_ptr<Contender> contend(const LockRequest& request) const { return std::make_unique<Contender>(request); }
  std::unique_ptr<Contender> hold(const LockRequest& request) const
  {
    auto contender = contend(request);
    EXPECT_TRUE(contender->has_it());
    return contender;
  }
  // Those who stand in the queue and not at its head wait for one byte each, the head for all slots.
  bool has_waiters(int count) const
  {
    return eventually([&] { return kernel_waiters(path) == count; });
  }
  // The slots that are taken now.
  std::set<int> taken() const
  {
    std::set<int> slots;
    for (const auto& line : kernel_holders(path)) {
      if (line.api != "OFDLCK") { continue; }
      const Range first = kernel::byte_of_slot(0);
      for (auto byte = std::stoll(line.start); byte <= std::stoll(line.end); ++byte) {
        slots.insert(static_cast<int>(byte - first.start));
      }
    }
    return slots;
  }

  const TempDir dir;
  const std::filesystem::path path = dir / "lock";
};

TEST_F(Slots, AsManyAsThereAreAndNoMore)
{
  std::vector<std::unique_ptr<Contender>> holders;
  for (int i = 0; i < 3; ++i) { holders.push_back(hold(request(3))); }
  EXPECT_TRUE(eventually([&] { return taken() == std::set{0, 1, 2}; }));
  EXPECT_EQ(try_once(request(3)), Reason::busy);
  EXPECT_EQ(holders[1]->outcome(), k_granted);
  EXPECT_TRUE(eventually([&] { return taken() == std::set{0, 2}; }));
  const auto lock = acquire(request(3), {});
  ASSERT_TRUE(lock);
  EXPECT_EQ(lock->slot(), 1);
}

TEST_F(Slots, AWaiterGetsTheSlotThatBecomesFree)
{
  for (const int freed : {0, 1, 2}) {
    std::vector<std::unique_ptr<Contender>> holders;
    for (int i = 0; i < 3; ++i) { holders.push_back(hold(request(3))); }
    const auto waiter = contend(request(3));
    ASSERT_TRUE(has_waiters(3));
    holders[static_cast<std::size_t>(freed)]->kill();
    EXPECT_TRUE(waiter->has_it());
    EXPECT_TRUE(eventually([&] { return taken() == std::set{0, 1, 2}; }));
    EXPECT_EQ(waiter->outcome(), k_granted);
  }
}

// However many are killed: as soon as one is gone the next has its slot, and nobody sees one free who waits.
TEST_F(Slots, AllAreTakenAsLongAsEnoughWantThem)
{
  constexpr int k_slots = 3;
  constexpr int k_rounds = 60;
  std::mt19937 random(7);
  std::vector<std::unique_ptr<Contender>> holders;
  std::vector<std::unique_ptr<Contender>> waiters;
  for (int i = 0; i < k_slots; ++i) { holders.push_back(hold(request(k_slots))); }
  for (int round = 0; round < k_rounds; ++round) {
    waiters.push_back(contend(request(k_slots)));
    waiters.push_back(contend(request(k_slots)));
    ASSERT_TRUE(has_waiters(k_slots + 1));
    auto& doomed = holders[random() % k_slots];
    if (random() % 2 == 0) {
      doomed->kill();
    } else {
      EXPECT_EQ(doomed->outcome(), k_granted);
    }
    // One of the two comes in, whichever was first.
    const auto in_the_queue = [&](const auto& waiter) {
      const auto lines = kernel_locks(path);
      return std::any_of(
        lines.begin(), lines.end(), [&](const auto& line) { return line.api == "POSIX" && line.pid == waiter->pid(); });
    };
    ASSERT_TRUE(eventually([&] { return in_the_queue(waiters[0]) != in_the_queue(waiters[1]); }));
    const auto winner = in_the_queue(waiters[0]) ? waiters.begin() + 1 : waiters.begin();
    ASSERT_TRUE((*winner)->has_it());
    EXPECT_TRUE(eventually([&] { return taken() == std::set{0, 1, 2}; })); // a look while others lock may lack a line
    doomed = std::move(*winner);
    waiters.erase(winner);
    waiters.back()->kill();
    waiters.clear();
    ASSERT_TRUE(has_waiters(0));
  }
}

TEST_F(Slots, OneThatIsInheritedIsKept)
{
  Gate gate;
  auto lock = acquire(request(1), {});
  ASSERT_TRUE(lock);
  Forked heir([&] {
    gate.wait();
    return 0;
  });
  {
    const Lock gone = std::move(*lock); // as when lockrun is killed and its command lives on
  }
  EXPECT_EQ(try_once(request(1)), Reason::busy);
  EXPECT_EQ(try_once(request(2)), k_granted);
  gate.open();
  EXPECT_EQ(heir.wait(), exited(0));
  EXPECT_EQ(try_once(request(1)), k_granted);
}

TEST_F(Slots, EachCallerLooksAtItsOwnNumberOfThem)
{
  const auto first = hold(request(4));
  EXPECT_EQ(try_once(request(1)), Reason::busy);
  const auto second = acquire(request(2), {});
  ASSERT_TRUE(second);
  EXPECT_EQ(second->slot(), 1);
}

TEST_F(Slots, ExclusiveWaitsForAllOfThemAndClosesAll)
{
  const auto first = hold(request(2));
  const auto second = hold(request(2));
  EXPECT_EQ(try_once(plain()), Reason::busy);
  EXPECT_EQ(try_once(plain(Mode::shared)), k_granted);
  const auto exclusive = contend(plain());
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(first->outcome(), k_granted);
  ASSERT_TRUE(has_waiters(1)); // still, or again
  EXPECT_EQ(second->outcome(), k_granted);
  ASSERT_TRUE(exclusive->has_it());
  EXPECT_EQ(try_once(request(2)), Reason::busy);
  EXPECT_TRUE(taken().empty()); // who fails leaves nothing
  EXPECT_EQ(exclusive->outcome(), k_granted);
  EXPECT_EQ(try_once(request(2)), k_granted);
}

TEST_F(Slots, AreServedInTheOrderOfArrivalTogetherWithFairCallers)
{
  const auto first = hold(request(2));
  LockRequest fair = plain();
  fair.fair = true;
  const auto exclusive = contend(fair);
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(try_once(request(2)), Reason::busy); // a slot is free, but somebody was first
  const auto late = contend(request(2));
  ASSERT_TRUE(has_waiters(2));
  EXPECT_EQ(first->outcome(), k_granted);
  EXPECT_TRUE(exclusive->has_it());
  EXPECT_TRUE(has_waiters(1));
  EXPECT_EQ(exclusive->outcome(), k_granted);
  EXPECT_EQ(late->outcome(), k_granted);
}

TEST_F(Slots, GivingUpInTimeLeavesNothing)
{
  const auto first = hold(request(2));
  const auto second = hold(request(2));
  const auto waiter = contend(waiting_at_most(request(2), std::chrono::milliseconds(5)));
  EXPECT_EQ(waiter->outcome(), Reason::timed_out);
  EXPECT_EQ(kernel_locks(path).size(), 4U); // two slots, two flocks
}

// --- nested calls ---

TEST_F(Slots, ACallIsNestedWhenItsAncestorsHaveAllOfThem)
{
  auto lock = acquire(request(2), {});
  ASSERT_TRUE(lock);
  LockRequest nested = request(2);
  nested.nested = Nested::fail;
  EXPECT_EQ(try_once(nested), k_granted);
  const auto stranger = hold(request(2));
  Contender waits_for_the_stranger(nested);
  ASSERT_TRUE(has_waiters(2));
  EXPECT_EQ(stranger->outcome(), k_granted);
  EXPECT_EQ(waits_for_the_stranger.outcome(), k_granted);
  const auto second = acquire(request(2), {});
  ASSERT_TRUE(second);
  EXPECT_EQ(Contender(nested).outcome(), Reason::nested);
  nested.nested = Nested::run;
  const auto under_theirs = acquire(nested, {});
  ASSERT_TRUE(under_theirs);
  EXPECT_EQ(under_theirs->slot(), std::nullopt);
}

// An exclusive caller who queues waits for our ancestor's slot, and our ancestor for us.
TEST_F(Slots, ANestedCallGoesBeforeThoseWhoQueue)
{
  const auto lock = acquire(request(2), {});
  ASSERT_TRUE(lock);
  LockRequest fair = plain();
  fair.fair = true;
  const auto exclusive = contend(fair);
  ASSERT_TRUE(has_waiters(1));
  LockRequest nested = request(2);
  nested.nested = Nested::fail;
  EXPECT_EQ(contend(nested)->outcome(), k_granted);
  exclusive->kill();
}

// --- many, of whom any may be killed ---

constexpr int k_slots = 4;

struct Seats {
  std::array<std::atomic<pid_t>, k_slots> occupants;
  std::atomic<int> visits;
  std::atomic<int> meetings;
};

// Sits on the seat, lets others run, and sees whether somebody else sat down meanwhile.
void sit(Seats& seats, int slot)
{
  auto& seat = seats.occupants.at(static_cast<std::size_t>(slot));
  seat.store(::getpid());
  for (int i = 0; i < 10; ++i) { ::sched_yield(); }
  if (seat.load() != ::getpid()) { ++seats.meetings; }
  ++seats.visits;
}

// 16 processes of which one is killed for every tenth visit; `find_seat` says where to sit, and for how long.
void torture(const Shared<Seats>& seats, const std::function<int()>& visit)
{
  constexpr int k_visits = 600;
  std::mt19937 random(3);
  std::vector<std::unique_ptr<Forked>> crowd;
  const auto send_one = [&] {
    crowd.push_back(std::make_unique<Forked>([&] {
      while (seats->visits.load() < k_visits) {
        if (const int failed = visit(); failed != 0) { return failed; }
      }
      return 0;
    }));
  };
  while (crowd.size() < 16) { send_one(); }
  for (int next = 10; next < k_visits; next = seats->visits.load() + 10) {
    ASSERT_TRUE(eventually([&] { return seats->visits.load() >= next; }));
    auto& victim = crowd[random() % crowd.size()];
    (void)victim->kill();
    std::swap(victim, crowd.back());
    crowd.pop_back();
    send_one();
  }
  for (const auto& process : crowd) { EXPECT_EQ(process->wait(), exited(0)); }
}

TEST_F(Slots, NobodyHasTheSlotOfAnotherWhoeverIsKilled)
{
  const Shared<Seats> seats;
  torture(seats, [&] {
    const auto lock = acquire(request(k_slots), {});
    if (!lock || !lock->slot()) { return 1; }
    sit(*seats, *lock->slot());
    return 0;
  });
  EXPECT_EQ(seats->meetings.load(), 0);
  EXPECT_TRUE(kernel_locks(path).empty());
}

// The twin: on seats that nobody has reserved they must be seen to meet.
TEST_F(Slots, NobodyHasTheSlotOfAnotherOnlyBecauseOfTheLock)
{
  EXPECT_TRUE(eventually([&] { // the first one may be done before the second one is born
    const Shared<Seats> seats;
    torture(seats, [&] {
      sit(*seats, seats->visits.load() % k_slots);
      return 0;
    });
    return seats->meetings.load() > 0;
  }));
}

} // namespace
} // namespace lockrun::testing
