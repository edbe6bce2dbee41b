// What every way to lock promises, whoever grants it.

#include "contract/contender.hpp"
#include "lock/hold.hpp"
#include "lock/lock_file.hpp"
#include "support/eventually.hpp"
#include "support/kernel_locks.hpp"
#include "support/temp_dir.hpp"
#include "support/witness.hpp"

#include <chrono>
#include <csignal>
#include <ostream>
#include <vector>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr auto k_granted = std::optional<Reason>();

// Each promise on a file system with a disk, and on one in memory.
struct Ground {
  Backend backend;
  const char* name;
  const char* directory;
};

std::vector<Ground> grounds()
{
  std::vector<Ground> all;
  for (const Backend& backend : k_backends) {
    all.push_back({backend, "Disk", "/var/tmp"});
    all.push_back({backend, "Memory", "/dev/shm"});
  }
  return all;
}

void PrintTo(const Ground& ground, std::ostream* out)
{
  *out << ground.backend.name << " in " << ground.directory;
}

class Promise : public ::testing::TestWithParam<Ground> {
protected:
  LockRequest request(Mode mode = Mode::exclusive) const { return request_for(GetParam().backend, path, mode); }
  bool has_waiters(int count) const
  {
    return eventually([&] { return kernel_waiters(path) == count; });
  }

  const TempDir dir{GetParam().directory};
  const std::filesystem::path path = dir / "lock";
};
INSTANTIATE_TEST_SUITE_P(Every, Promise, ::testing::ValuesIn(grounds()),
  [](const auto& ground) { return std::string(ground.param.backend.name) + ground.param.name; });

// --- who excludes whom ---

TEST_P(Promise, ExclusiveExcludesAll)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  EXPECT_EQ(try_once(request(Mode::exclusive)), Reason::busy);
  EXPECT_EQ(try_once(request(Mode::shared)), Reason::busy);
  EXPECT_EQ(holder.outcome(), k_granted);
}

TEST_P(Promise, SharedCoexistAndExcludeExclusive)
{
  if (GetParam().backend.slots > 0) { GTEST_SKIP() << "a slot is never shared"; }
  Contender first(request(Mode::shared));
  Contender second(request(Mode::shared));
  ASSERT_TRUE(first.has_it() && second.has_it());
  EXPECT_EQ(try_once(request(Mode::shared)), k_granted);
  EXPECT_EQ(try_once(request(Mode::exclusive)), Reason::busy);
  EXPECT_EQ(first.outcome(), k_granted);
  EXPECT_EQ(try_once(request(Mode::exclusive)), Reason::busy);
  EXPECT_EQ(second.outcome(), k_granted);
  EXPECT_EQ(try_once(request(Mode::exclusive)), k_granted);
}

TEST_P(Promise, TwoLocksOfOneProcessExcludeEachOther)
{
  const auto lock = acquire(request(), {});
  ASSERT_TRUE(lock);
  EXPECT_EQ(try_once(request()), Reason::busy);
}

TEST_P(Promise, NobodyIsInsideWithAnother)
{
  constexpr int k_processes = 6;
  constexpr int k_rounds = 40;
  const Witness witness(dir.path());
  Gate gate;
  std::vector<Forked> visitors;
  for (int i = 0; i < k_processes; ++i) {
    visitors.emplace_back([&] {
      gate.wait();
      for (int round = 0; round < k_rounds; ++round) {
        const auto lock = acquire(request(), {});
        if (!lock) { return 1; }
        witness.visit();
      }
      return 0;
    });
  }
  gate.open();
  for (Forked& visitor : visitors) { EXPECT_EQ(visitor.wait(), exited(0)); }
  EXPECT_EQ(witness.visits(), k_processes * k_rounds);
  EXPECT_EQ(witness.meetings(), 0);
}

// The twin: the same crowd without the lock must be seen to meet.
TEST_P(Promise, NobodyIsInsideWithAnotherOnlyBecauseOfTheLock)
{
  const Witness witness(dir.path());
  const auto crowd_meets = [&] {
    Gate gate;
    std::vector<Forked> visitors;
    for (int i = 0; i < 6; ++i) {
      visitors.emplace_back([&] {
        gate.wait();
        for (int round = 0; round < 40; ++round) { witness.visit(); }
        return 0;
      });
    }
    gate.open();
    for (Forked& visitor : visitors) { EXPECT_EQ(visitor.wait(), exited(0)); }
    return witness.meetings() > 0;
  };
  EXPECT_TRUE(eventually(crowd_meets));
}

// --- what ends it ---

TEST_P(Promise, EndsWithTheLockObject)
{
  {
    const auto lock = acquire(request(), {});
    ASSERT_TRUE(lock);
  }
  EXPECT_EQ(try_once(request()), k_granted);
}

TEST_P(Promise, EndsWithRelease)
{
  auto lock = acquire(request(), {});
  ASSERT_TRUE(lock);
  ASSERT_TRUE(lock->release());
  EXPECT_EQ(try_once(request()), k_granted);
}

TEST_P(Promise, EndsWhenTheHolderIsKilled)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  holder.kill();
  EXPECT_EQ(try_once(request()), k_granted);
}

TEST_P(Promise, IsKeptByAProcessThatInheritedIt)
{
  Gate gate;
  auto lock = acquire(request(), {});
  ASSERT_TRUE(lock);
  Forked heir([&] {
    gate.wait();
    return 0;
  });
  {
    const Lock gone = std::move(*lock);
  }
  EXPECT_EQ(try_once(request()), Reason::busy);
  gate.open();
  EXPECT_EQ(heir.wait(), exited(0));
  EXPECT_EQ(try_once(request()), k_granted);
}

TEST_P(Promise, ReleaseFreesItForAllWhoInheritedIt)
{
  Gate gate;
  auto lock = acquire(request(), {});
  ASSERT_TRUE(lock);
  Forked heir([&] {
    gate.wait();
    return 0;
  });
  ASSERT_TRUE(lock->release());
  EXPECT_EQ(try_once(request()), k_granted);
  gate.open();
  EXPECT_EQ(heir.wait(), exited(0));
}

TEST_P(Promise, IsNotInheritedAcrossExec)
{
  const auto lock = acquire(request(), {});
  ASSERT_TRUE(lock);
  for (const Hold& hold : lock->holds()) { EXPECT_EQ(::fcntl(hold.fd.get(), F_GETFD), FD_CLOEXEC); }
}

// --- waiting ---

TEST_P(Promise, WaitsInTheKernelAndGetsItOnRelease)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  Contender waiter(request());
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(holder.outcome(), k_granted);
  EXPECT_TRUE(waiter.has_it());
  EXPECT_EQ(waiter.outcome(), k_granted);
}

TEST_P(Promise, WaitsForAHolderThatIsKilled)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  Contender waiter(request());
  ASSERT_TRUE(has_waiters(1));
  holder.kill();
  EXPECT_EQ(waiter.outcome(), k_granted);
}

TEST_P(Promise, AWaiterThatIsKilledIsInNobodysWay)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  Contender doomed(request());
  ASSERT_TRUE(has_waiters(1));
  Contender waiter(request());
  ASSERT_TRUE(has_waiters(2));
  doomed.kill();
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(holder.outcome(), k_granted);
  EXPECT_EQ(waiter.outcome(), k_granted);
}

TEST_P(Promise, AWaiterHasThePidOfItsProcessInTheKernel)
{
  if (GetParam().backend.queue != LockKind::flock) { GTEST_SKIP() << "ofd waiters have no pid"; }
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  Contender waiter(request());
  ASSERT_TRUE(has_waiters(1));
  for (const auto& line : kernel_locks(path)) {
    if (line.waits) { EXPECT_EQ(line.pid, waiter.pid()); }
  }
}

TEST_P(Promise, GivesUpInTimeAndNotBefore)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  for (const nanoseconds patience : {nanoseconds(1), nanoseconds(milliseconds(30))}) {
    const auto began = steady_clock::now();
    const auto lock = acquire(waiting_at_most(request(), patience), {});
    ASSERT_FALSE(lock);
    EXPECT_EQ(lock.error().reason, Reason::timed_out);
    EXPECT_GE(steady_clock::now() - began, patience);
  }
  EXPECT_EQ(kernel_waiters(path), 0);
}

TEST_P(Promise, GivesUpInTimeWhateverItInherited)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  // One for the lock and, where that one is not open for writing, one for the queue: none is left for the wait.
  const int needed = has_own_queue_fd(request()) ? 2 : 1;
  const auto leave_as_many_descriptors_as_needed = [needed] {
    std::vector<int> free;
    for (int i = 0; i < needed; ++i) { free.push_back(::dup(0)); }
    for (const int fd : free) { ::close(fd); }
    hostile::limit(RLIMIT_NOFILE, static_cast<rlim_t>(free.back()) + 1)();
  };
  for (const std::function<void()>& hook : {hostile::ignore(SIGALRM), hostile::block(SIGALRM), hostile::ignore(SIGCHLD),
         hostile::block(SIGCHLD), std::function<void()>(leave_as_many_descriptors_as_needed)}) {
    Contender waiter(waiting_at_most(request(), milliseconds(5)), hook);
    EXPECT_EQ(waiter.outcome(), Reason::timed_out);
  }
}

TEST_P(Promise, GetsItWithALimitThatHasNotPassed)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  Contender waiter(waiting_at_most(request(), std::chrono::hours(1)));
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(holder.outcome(), k_granted);
  EXPECT_EQ(waiter.outcome(), k_granted);
}

TEST_P(Promise, AWaitIsEndedByASignal)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  WaitPlan plan;
  ::sigaddset(&plan.ended_by, SIGTERM);
  Contender waiter(request(), hostile::block(SIGTERM), {}, plan);
  ASSERT_TRUE(has_waiters(1));
  waiter.signal(SIGTERM);
  EXPECT_EQ(waiter.outcome(), Reason::interrupted);
  EXPECT_EQ(kernel_waiters(path), 0);
}

TEST_P(Promise, AWaitIsNotEndedByASignalThatIsIgnored)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  WaitPlan plan;
  ::sigaddset(&plan.ended_by, SIGHUP);
  ::sigaddset(&plan.ended_by, SIGTERM);
  const auto as_nohup_does = [] {
    hostile::ignore(SIGHUP)();
    hostile::block(SIGHUP)();
    hostile::block(SIGTERM)();
  };
  Contender waiter(request(), as_nohup_does, {}, plan);
  ASSERT_TRUE(has_waiters(1));
  waiter.signal(SIGHUP);
  waiter.signal(SIGTERM);
  EXPECT_EQ(waiter.outcome(), Reason::interrupted);
}

// Nothing but the end of the wait interrupts it: the place in the queue would be lost.
class BusyObserver : public WaitObserver {
public:
  std::chrono::nanoseconds look(std::chrono::nanoseconds) override { return nanoseconds(1); }
  void stuck(const Error&) override {}
};

TEST_P(Promise, ThePlaceInTheQueueIsKept)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  const auto record = dir / "order";
  const auto write = [&](const char* name) {
    return [record, name] {
      const int fd = ::open(record.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
      (void)!::write(fd, name, 1); // a missing letter shows
      ::close(fd);
    };
  };
  BusyObserver observer;
  WaitPlan talkative;
  talkative.observer = &observer;
  ::sigaddset(&talkative.ended_by, SIGTERM);
  Contender first(request(), {}, write("A"));
  ASSERT_TRUE(has_waiters(1));
  Contender second(waiting_at_most(request(), std::chrono::hours(1)), hostile::block(SIGTERM), write("B"), talkative);
  ASSERT_TRUE(has_waiters(2));
  Contender third(request(), {}, write("C"));
  ASSERT_TRUE(has_waiters(3));
  second.signal(SIGCHLD); // nobody minds
  second.signal(SIGWINCH);

  EXPECT_EQ(holder.outcome(), k_granted);

  for (Contender* next : {&first, &second, &third}) { EXPECT_EQ(next->outcome(), k_granted); }
  EXPECT_EQ(read_file(record), "ABC");
}

// --- the file ---

TEST_P(Promise, TheFileIsMadeEmptyAndNeverWritten)
{
  ASSERT_EQ(try_once(request()), k_granted);
  EXPECT_EQ(read_file(path), "");
  write_file(path, "data");
  struct ::stat before {};
  struct ::stat after {};
  ASSERT_EQ(::stat(path.c_str(), &before), 0);
  ASSERT_EQ(try_once(request()), k_granted);
  ASSERT_EQ(::stat(path.c_str(), &after), 0);
  EXPECT_EQ(read_file(path), "data");
  EXPECT_EQ(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
  EXPECT_EQ(before.st_ino, after.st_ino);
}

TEST_P(Promise, AWaiterNeverEndsUpWithARemovedFile)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  const auto old = dir / "old"; // a second name, under which the waiter can be seen in the queue
  std::filesystem::create_hard_link(path, old);
  Contender waiter(request());
  ASSERT_TRUE(eventually([&] { return kernel_waiters(old) == 1; }));
  std::filesystem::remove(path);
  EXPECT_EQ(holder.outcome(), k_granted);
  ASSERT_TRUE(waiter.has_it());
  EXPECT_FALSE(std::filesystem::equivalent(path, old));
  EXPECT_EQ(try_once(request()), Reason::busy);
  EXPECT_EQ(waiter.outcome(), k_granted);
}

TEST_P(Promise, AWaiterQueuesForTheFileThatReplacedTheOldOne)
{
  Contender holder(request());
  ASSERT_TRUE(holder.has_it());
  Contender waiter(request());
  ASSERT_TRUE(has_waiters(1));
  std::filesystem::rename(path, dir / "old");
  Contender second_holder(request());
  ASSERT_TRUE(second_holder.has_it());
  EXPECT_EQ(holder.outcome(), k_granted);
  ASSERT_TRUE(has_waiters(1)); // now behind the second one
  EXPECT_EQ(second_holder.outcome(), k_granted);
  EXPECT_EQ(waiter.outcome(), k_granted);
}

// --- who does not see whom ---

TEST_P(Promise, OtherFilesAreOtherLocks)
{
  const auto lock = acquire(request(), {});
  ASSERT_TRUE(lock);
  EXPECT_EQ(try_once(request_for(GetParam().backend, dir / "other")), k_granted);
}

TEST_P(Promise, AnotherNameOfTheFileIsTheSameLock)
{
  const auto lock = acquire(request(), {});
  ASSERT_TRUE(lock);
  std::filesystem::create_hard_link(path, dir / "hard");
  std::filesystem::create_symlink("lock", dir / "soft");
  EXPECT_EQ(try_once(request_for(GetParam().backend, dir / "hard")), Reason::busy);
  EXPECT_EQ(try_once(request_for(GetParam().backend, dir / "soft")), Reason::busy);
}

TEST_P(Promise, OnlyTheSameKindOfLockIsSeen)
{
  for (const LockKind kind : {LockKind::flock, LockKind::ofd}) {
    const HeldLock held(path, Mode::exclusive, kind);
    const Api api = GetParam().backend.api;
    const bool sees = api == Api::both || (api == Api::flock) == (kind == LockKind::flock);
    EXPECT_EQ(try_once(request()), sees ? std::optional(Reason::busy) : k_granted) << name_of(kind);
  }
}

TEST_P(Promise, AnOrdinaryProgramWithTheSameKindOfLockIsExcludedToo)
{
  const auto lock = acquire(request(), {});
  ASSERT_TRUE(lock);
  const Api api = GetParam().backend.api;
  EXPECT_EQ(is_free(path, Mode::exclusive, LockKind::flock), api == Api::ofd);
  EXPECT_EQ(is_free(path, Mode::exclusive, LockKind::ofd), api == Api::flock);
  EXPECT_EQ(is_free(path, Mode::exclusive, LockKind::posix), api == Api::flock);
}

// --- ranges, where there are any ---

TEST(OfdRange, OthersAreOtherLocks)
{
  const TempDir dir;
  LockRequest request = request_for(k_backends[1], dir / "lock");
  request.range = {0, 10};
  const auto lock = acquire(request, {});
  ASSERT_TRUE(lock);
  request.range = {10, 1};
  EXPECT_EQ(try_once(request), k_granted);
  request.range = {9, 1};
  EXPECT_EQ(try_once(request), Reason::busy);
  request.range = {5, 0}; // to the end, however far
  EXPECT_EQ(try_once(request), Reason::busy);
}

TEST(OfdRange, OfTheQueueIsNotPartOfTheLock)
{
  const TempDir dir;
  const auto lock = acquire(request_for(k_backends[1], dir / "lock"), {});
  ASSERT_TRUE(lock);
  EXPECT_TRUE(is_free(dir / "lock", Mode::exclusive, LockKind::ofd, {std::int64_t{1} << 62, 1}));
  EXPECT_FALSE(is_free(dir / "lock", Mode::exclusive, LockKind::ofd, {(std::int64_t{1} << 62) - 1, 1}));
}

// --- descriptors of the caller's ---

TEST_P(Promise, ADescriptorStaysOpenAndLockedWhateverBecomesOfUs)
{
  if (GetParam().backend.slots > 0) { GTEST_SKIP() << "slots are for files only"; }
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  LockRequest through_descriptor = request();
  through_descriptor.fd = fd;
  {
    const auto lock = acquire(through_descriptor, {});
    ASSERT_TRUE(lock);
  }
  EXPECT_EQ(try_once(request()), Reason::busy);
  ASSERT_TRUE(unlock(through_descriptor));
  EXPECT_EQ(try_once(request()), k_granted);
  EXPECT_GE(::fcntl(fd, F_GETFD), 0);
  ::close(fd);
}

TEST_P(Promise, ADescriptorHasNoLockAfterAWaitThatFailed)
{
  if (GetParam().backend.slots > 0) { GTEST_SKIP() << "slots are for files only"; }
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  // With `both` it is the second one that is busy.
  const LockKind kind = GetParam().backend.api == Api::flock ? LockKind::flock : LockKind::ofd;
  const HeldLock held(path, Mode::exclusive, kind);
  LockRequest through_descriptor = waiting_at_most(request(), milliseconds(5));
  through_descriptor.fd = fd;
  const auto lock = acquire(through_descriptor, {});
  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().reason, Reason::timed_out);
  EXPECT_EQ(kernel_holders(path).size(), 1U); // `held`
  ::close(fd);
}

// --- a hunt ---

// The deadline and the release meet over and over. Whoever was told that the lock is his has it, whoever was told that
// it is not has left nothing behind.
TEST_P(Promise, HoldsWhenDeadlineAndReleaseMeet)
{
  Gate gate;
  const Witness witness(dir.path());
  std::vector<Forked> visitors;
  for (int i = 0; i < 4; ++i) {
    visitors.emplace_back([&] {
      gate.wait();
      for (int round = 0; round < 100; ++round) {
        const auto lock = acquire(waiting_at_most(request(), std::chrono::microseconds(20 * (round % 10))), {});
        if (lock) { witness.visit(); }
        if (!lock && lock.error().reason != Reason::timed_out && lock.error().reason != Reason::busy) { return 1; }
      }
      return 0;
    });
  }
  gate.open();
  for (Forked& visitor : visitors) { EXPECT_EQ(visitor.wait(), exited(0)); }
  EXPECT_EQ(witness.meetings(), 0);
  EXPECT_GT(witness.visits(), 0);
  EXPECT_TRUE(kernel_locks(path).empty());
}

} // namespace
} // namespace lockrun::testing
