#include "sys/lock.hpp"

#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/temp_dir.hpp"
#include "sys/file.hpp"
#include "sys/raw.hpp"
#include "sys/signal.hpp"

#include <cerrno>

#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using sys::Attempt;

sys::Descriptor open_for(const std::filesystem::path& path, int flags = O_RDWR)
{
  return std::move(*sys::open(path.c_str(), flags | O_CREAT, 0666));
}

// The wrapper beside the bare call, on the same state of the kernel: `held` is what somebody else has.
struct FlockRow {
  const char* name;
  std::optional<Mode> held;
  Mode wanted;
  int bare; // errno of the bare call, 0 for success
};
constexpr FlockRow k_flock_rows[] = {
  {"ExclusiveOnFree", std::nullopt, Mode::exclusive, 0},
  {"SharedOnFree", std::nullopt, Mode::shared, 0},
  {"SharedOnShared", Mode::shared, Mode::shared, 0},
  {"ExclusiveOnShared", Mode::shared, Mode::exclusive, EWOULDBLOCK},
  {"SharedOnExclusive", Mode::exclusive, Mode::shared, EWOULDBLOCK},
  {"ExclusiveOnExclusive", Mode::exclusive, Mode::exclusive, EWOULDBLOCK},
};
class FlockTable : public ::testing::TestWithParam<FlockRow> {};

TEST_P(FlockTable, AgreesWithTheBareKernelCall)
{
  const FlockRow& row = GetParam();
  const TempDir dir;
  std::optional<HeldLock> held;
  if (row.held) { held.emplace(dir / "lock", *row.held); }
  const auto fd = open_for(dir / "lock");
  const int kind = row.wanted == Mode::shared ? LOCK_SH : LOCK_EX;
  const auto bare = sys::raw_call("flock", SYS_flock, fd.get(), kind | LOCK_NB);
  EXPECT_EQ(bare ? 0 : bare.error().code, row.bare);
  ASSERT_TRUE(sys::flock_unlock(fd));

  const auto attempt = sys::flock(fd, row.wanted, Wait::never);

  EXPECT_EQ(attempt, row.bare == 0 ? Attempt::acquired : Attempt::busy);
}
INSTANTIATE_TEST_SUITE_P(
  Table, FlockTable, ::testing::ValuesIn(k_flock_rows), [](const auto& row) { return row.param.name; });
class OfdTable : public ::testing::TestWithParam<FlockRow> {};

TEST_P(OfdTable, AgreesWithTheBareKernelCall)
{
  const FlockRow& row = GetParam();
  const TempDir dir;
  std::optional<HeldLock> held;
  if (row.held) { held.emplace(dir / "lock", *row.held, LockKind::ofd); }
  const auto fd = open_for(dir / "lock");
  struct ::flock description {};
  description.l_type = row.wanted == Mode::shared ? F_RDLCK : F_WRLCK;
  const auto bare = sys::raw_call("fcntl", SYS_fcntl, fd.get(), F_OFD_SETLK, &description);
  EXPECT_EQ(bare ? 0 : bare.error().code, row.bare);
  ASSERT_TRUE(sys::ofd_unlock(fd, {0, 0}));

  const auto attempt = sys::ofd_lock(fd, row.wanted, {}, Wait::never);

  EXPECT_EQ(attempt, row.bare == 0 ? Attempt::acquired : Attempt::busy);
}
INSTANTIATE_TEST_SUITE_P(
  Table, OfdTable, ::testing::ValuesIn(k_flock_rows), [](const auto& row) { return row.param.name; });

TEST(Flock, IsVisibleInTheKernelAndUnlockEndsIt)
{
  const TempDir dir;
  const auto fd = open_for(dir / "lock");
  ASSERT_EQ(sys::flock(fd, Mode::shared, Wait::allowed), Attempt::acquired);
  ASSERT_EQ(kernel_holders(dir / "lock").size(), 1U);
  EXPECT_EQ(kernel_holders(dir / "lock")[0].api, "FLOCK");
  EXPECT_EQ(kernel_holders(dir / "lock")[0].mode, "READ");
  ASSERT_TRUE(sys::flock_unlock(fd));
  EXPECT_TRUE(kernel_holders(dir / "lock").empty());
}

TEST(Flock, FailsOnWhatIsNotOpen)
{
  EXPECT_EQ(sys::flock({}, Mode::exclusive, Wait::never).error().code, EBADF);
  EXPECT_EQ(sys::flock_unlock({}).error().code, EBADF);
}

TEST(Flock, LocksDirectoriesAndReadOnlyDescriptors)
{
  const TempDir dir;
  const auto fd = sys::open(dir.path().c_str(), O_RDONLY);
  EXPECT_EQ(sys::flock(*fd, Mode::exclusive, Wait::never), Attempt::acquired);
  EXPECT_FALSE(is_free(dir.path()));
}

TEST(Ofd, CoversExactlyItsRange)
{
  const TempDir dir;
  const auto path = dir / "lock";
  const auto fd = open_for(path);
  ASSERT_EQ(sys::ofd_lock(fd, Mode::exclusive, {10, 5}, Wait::never), Attempt::acquired);
  const auto holders = kernel_holders(path);
  ASSERT_EQ(holders.size(), 1U);
  EXPECT_EQ(holders[0].api, "OFDLCK");
  EXPECT_EQ(holders[0].start, "10");
  EXPECT_EQ(holders[0].end, "14");
  EXPECT_TRUE(is_free(path, Mode::exclusive, LockKind::ofd, {0, 10}));
  EXPECT_FALSE(is_free(path, Mode::shared, LockKind::ofd, {14, 1}));
  EXPECT_TRUE(is_free(path, Mode::exclusive, LockKind::ofd, {15, 0}));
  ASSERT_TRUE(sys::ofd_unlock(fd, {10, 5}));
  EXPECT_TRUE(is_free(path, Mode::exclusive, LockKind::ofd));
}

TEST(Ofd, ExclusiveNeedsAWritableAndSharedAReadableDescriptor)
{
  const TempDir dir;
  const auto reading = open_for(dir / "lock", O_RDONLY);
  EXPECT_EQ(sys::ofd_lock(reading, Mode::shared, {}, Wait::never), Attempt::acquired);
  EXPECT_EQ(sys::ofd_lock(reading, Mode::exclusive, {}, Wait::never).error().code, EBADF);
  const auto writing = open_for(dir / "lock", O_WRONLY);
  EXPECT_EQ(sys::ofd_lock(writing, Mode::shared, {}, Wait::never).error().code, EBADF);
}

TEST(Ofd, RefusesARangeThatIsNone)
{
  const TempDir dir;
  const auto fd = open_for(dir / "lock");
  EXPECT_EQ(sys::ofd_lock(fd, Mode::exclusive, {-1, 1}, Wait::never).error().code, EINVAL);
  EXPECT_EQ(sys::ofd_lock(fd, Mode::exclusive, {INT64_MAX, 2}, Wait::never).error().code, EOVERFLOW);
}

TEST(Posix, ExcludesOtherProcessesOnly)
{
  const TempDir dir;
  const auto path = dir / "lock";
  const auto fd = open_for(path);
  ASSERT_EQ(sys::posix_lock(fd, Mode::exclusive, {10, 5}, Wait::never), Attempt::acquired);
  EXPECT_EQ(sys::posix_lock(fd, Mode::exclusive, {12, 1}, Wait::never), Attempt::acquired);
  const auto busy_for = [&](const Range& range) {
    return Forked([&] { return sys::posix_lock(fd, Mode::shared, range, Wait::never) == Attempt::busy ? 1 : 0; });
  };
  EXPECT_EQ(busy_for({14, 1}).wait(), exited(1));
  EXPECT_EQ(busy_for({15, 0}).wait(), exited(0));
  const auto holders = kernel_holders(path);
  ASSERT_EQ(holders.size(), 1U);
  EXPECT_EQ(holders[0].api, "POSIX");
  EXPECT_EQ(holders[0].pid, ::getpid());
  ASSERT_TRUE(sys::posix_unlock(fd, {10, 5}));
  EXPECT_EQ(busy_for({10, 5}).wait(), exited(0));
}

TEST(Posix, IsGoneWhenAnyDescriptorOfTheFileIsClosed)
{
  const TempDir dir;
  const auto fd = open_for(dir / "lock");
  ASSERT_EQ(sys::posix_lock(fd, Mode::exclusive, {0, 1}, Wait::never), Attempt::acquired);
  (void)open_for(dir / "lock");
  EXPECT_TRUE(kernel_holders(dir / "lock").empty());
}

TEST(Conflict, NamesALockOfSomebodyElse)
{
  const TempDir dir;
  const auto path = dir / "lock";
  EXPECT_EQ(sys::posix_conflict(open_for(path), Mode::exclusive, {}), std::nullopt);
  EXPECT_EQ(sys::ofd_conflict(open_for(path), Mode::exclusive, {}), std::nullopt);
  const HoldingProcess posix(path, Mode::shared, LockKind::posix, {7, 2}); // nothing for it to inherit, and close
  const auto fd = open_for(path);
  const HeldLock ofd(path, Mode::exclusive, LockKind::ofd, {20, 0});
  for (const auto conflict : {sys::posix_conflict, sys::ofd_conflict}) {
    EXPECT_EQ(conflict(fd, Mode::shared, {0, 10}), std::nullopt);
    const auto low = conflict(fd, Mode::exclusive, {0, 10});
    ASSERT_TRUE(low && *low);
    EXPECT_EQ((*low)->pid, posix.pid());
    EXPECT_EQ((*low)->mode, Mode::shared);
    EXPECT_EQ((*low)->range, (Range{7, 2}));
    const auto high = conflict(fd, Mode::shared, {10, 0});
    ASSERT_TRUE(high && *high);
    EXPECT_EQ((*high)->pid, -1);
    EXPECT_EQ((*high)->mode, Mode::exclusive);
    EXPECT_EQ((*high)->range, (Range{20, 0}));
  }
}

TEST(Conflict, OurOwnLocksCountInTheOtherMeaningOnly)
{
  const TempDir dir;
  const auto fd = open_for(dir / "lock");
  ASSERT_EQ(sys::posix_lock(fd, Mode::exclusive, {0, 1}, Wait::never), Attempt::acquired);
  ASSERT_EQ(sys::ofd_lock(fd, Mode::exclusive, {1, 1}, Wait::never), Attempt::acquired);
  EXPECT_EQ((*sys::posix_conflict(fd, Mode::exclusive, {}))->range.start, 1);
  EXPECT_EQ((*sys::ofd_conflict(fd, Mode::exclusive, {}))->range.start, 0);
  EXPECT_EQ(sys::posix_conflict({}, Mode::exclusive, {}).error().code, EBADF);
}

// --- blocking ---

class Blocking : public ::testing::TestWithParam<LockKind> {
protected:
  static Result<Attempt> lock(const sys::Descriptor& fd, Wait wait)
  {
    switch (GetParam()) {
    case LockKind::flock:
      return sys::flock(fd, Mode::exclusive, wait);
    case LockKind::ofd:
      return sys::ofd_lock(fd, Mode::exclusive, {}, wait);
    case LockKind::posix:
      break;
    }
    return sys::posix_lock(fd, Mode::exclusive, {}, wait);
  }
  const TempDir dir;
  const std::filesystem::path path = dir / "lock";
};

TEST_P(Blocking, QueuesAndGetsItOnRelease)
{
  HeldLock held(path, Mode::exclusive, GetParam());
  Forked waiter([&] { return lock(open_for(path), Wait::allowed) == Attempt::acquired ? 0 : 1; });
  EXPECT_TRUE(eventually([&] { return kernel_waiters(path) == 1; }));
  held.release();
  EXPECT_EQ(waiter.wait(), exited(0));
}

TEST_P(Blocking, IsInterruptedByASignalHandler)
{
  const HeldLock held(path, Mode::exclusive, GetParam());
  Forked waiter([&] {
    (void)sys::set_interrupting(SIGUSR1);
    return lock(open_for(path), Wait::allowed) == Attempt::interrupted ? 0 : 1;
  });
  EXPECT_TRUE(eventually([&] { return kernel_waiters(path) == 1; }));
  waiter.signal(SIGUSR1);
  EXPECT_EQ(waiter.wait(), exited(0));
  EXPECT_EQ(kernel_waiters(path), 0);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Blocking, ::testing::Values(LockKind::flock, LockKind::ofd, LockKind::posix),
  [](const auto& kind) { return name_of(kind.param); });

} // namespace
} // namespace lockrun::testing
