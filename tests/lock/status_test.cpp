#include <lockrun/lock.hpp>
#include <lockrun/status.hpp>

#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/lock_status.hpp"
#include "support/temp_dir.hpp"
#include "sys/clock.hpp"
#include "sys/lock.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <vector>

#include <gtest/gtest.h>
#include <linux/sched.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

LockStatus status_of(const std::filesystem::path& path)
{
  return status(request_for(path)).value();
}

std::vector<pid_t> sorted_pids_of(const auto& users)
{
  std::vector<pid_t> pids;
  for (const auto& user : users) { pids.push_back(user.pid); }
  std::sort(pids.begin(), pids.end());
  return pids;
}

LockApi api_of(LockKind kind)
{
  return kind == LockKind::flock ? LockApi::flock : kind == LockKind::ofd ? LockApi::ofd : LockApi::posix;
}

// A process with a copy of a descriptor that another one took and locked, which has ended since.
class Inheritor {
public:
  explicit Inheritor(const std::filesystem::path& path, LockKind kind = LockKind::flock)
    : m_taker([&]() -> int {
        const HeldLock held(path, Mode::exclusive, kind);
        const pid_t heir = ::fork();
        if (heir == 0) {
          ::close(m_end.write_end); // our own copy would keep us waiting
          const pid_t self = ::getpid();
          (void)!::write(m_told.write_end, &self, sizeof self);
          char byte = 0;
          (void)!::read(m_end.read_end, &byte, 1);
          ::_exit(0);
        }
        ::_exit(0); // without unlocking
      })
  {
    m_taker_pid = m_taker.pid();
    (void)!::read(m_told.read_end, &m_pid, sizeof m_pid);
    (void)m_taker.wait();
  }
  ~Inheritor() { m_end.close_write(); }
  pid_t pid() const { return m_pid; }
  pid_t taker() const { return m_taker_pid; }

private:
  Pipe m_end;
  Pipe m_told;
  Forked m_taker;
  pid_t m_pid = 0;
  pid_t m_taker_pid = 0;
};

// A child of ours that has the number `pid`, which must be free; 0 if this kernel or user does not allow that.
pid_t fork_as(pid_t pid)
{
  clone_args how{};
  how.exit_signal = SIGCHLD;
  how.set_tid = reinterpret_cast<std::uintptr_t>(&pid);
  how.set_tid_size = 1;
  const long child = ::syscall(SYS_clone3, &how, sizeof how);
  if (child == 0) {
    for (;;) { ::pause(); }
  }
  return child > 0 ? static_cast<pid_t>(child) : 0;
}

TEST(Status, AMissingFileIsFreeAndStaysMissing)
{
  const TempDir dir;
  const auto seen = status_of(dir / "lock");
  EXPECT_EQ(seen.state, LockState::free);
  EXPECT_TRUE(seen.is_missing);
  EXPECT_FALSE(std::filesystem::exists(dir / "lock"));
}

TEST(Status, NobodyHoldsAFreeLock)
{
  const TempDir dir;
  write_file(dir / "lock", "");
  const auto seen = status_of(dir / "lock");
  EXPECT_EQ(seen.state, LockState::free);
  EXPECT_FALSE(seen.is_missing);
  EXPECT_TRUE(seen.holders.empty());
  EXPECT_TRUE(seen.waiters.empty());
}

TEST(Status, TellsWhatItCannotOpen)
{
  const TempDir dir;
  const auto seen = status(request_for(write_file(dir / "file", "") / "lock"));
  ASSERT_FALSE(seen);
  EXPECT_EQ(seen.error().reason, Reason::open_failed);
  EXPECT_EQ(seen.error().cause.code, ENOTDIR);
}

class EveryKind : public ::testing::TestWithParam<LockKind> {
protected:
  const TempDir dir;
  const std::filesystem::path path = dir / "lock";
};

TEST_P(EveryKind, NamesTheHolder)
{
  const HoldingProcess holder(path, Mode::exclusive, GetParam());
  const auto seen = status_of(path);
  EXPECT_EQ(seen.state, LockState::exclusive);
  ASSERT_EQ(sorted_pids_of(seen.holders), std::vector{holder.pid()});
  const Holder& told = seen.holders.front();
  EXPECT_EQ(told.evidence, Holder::Evidence::descriptor);
  EXPECT_EQ(told.api, api_of(GetParam()));
  EXPECT_EQ(told.user, ::geteuid());
  EXPECT_NE(told.command.find("test_lock"), std::string::npos);
  ASSERT_TRUE(told.since);
  EXPECT_EQ(told.since_kind, Holder::SinceKind::at_most);
  EXPECT_LE(*told.since, sys::wall_now());
  EXPECT_GT(*told.since, sys::wall_now() - std::chrono::minutes(10));
}

TEST_P(EveryKind, NamesEverySharedHolder)
{
  const HoldingProcess one(path, Mode::shared, GetParam());
  const HoldingProcess two(path, Mode::shared, GetParam());
  const auto seen = status_of(path);
  EXPECT_EQ(seen.state, LockState::shared);
  std::vector expected{one.pid(), two.pid()};
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(sorted_pids_of(seen.holders), expected);
}

TEST_P(EveryKind, DoesNotMindAnotherFile)
{
  const HoldingProcess holder(dir / "other", Mode::exclusive, GetParam());
  write_file(path, "");
  EXPECT_EQ(status_of(path).state, LockState::free);
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryKind, ::testing::Values(LockKind::flock, LockKind::ofd, LockKind::posix),
  [](const auto& kind) { return name_of(kind.param); });

class EveryInheritedKind : public EveryKind {};

TEST_P(EveryInheritedKind, NamesTheHeirWhenTheTakerIsGone)
{
  const Inheritor heir(path, GetParam());
  const auto seen = status_of(path);
  EXPECT_EQ(seen.state, LockState::exclusive);
  EXPECT_EQ(sorted_pids_of(seen.holders), std::vector{heir.pid()});
  EXPECT_EQ(seen.holders.front().evidence, Holder::Evidence::descriptor);
}

TEST_P(EveryInheritedKind, NamesTheTakerAloneWhileItLives)
{
  const HeldLock held(path, Mode::exclusive, GetParam());
  Notice ready;
  const Forked heir([&] {
    ready.give();
    ::pause();
    return 0;
  });
  ASSERT_TRUE(ready.await());
  EXPECT_EQ(sorted_pids_of(status_of(path).holders), std::vector{::getpid()});
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryInheritedKind, ::testing::Values(LockKind::flock, LockKind::ofd),
  [](const auto& kind) { return name_of(kind.param); });

TEST(Status, AnInheritedLockMayBeOlderThanItsHolder)
{
  const TempDir dir;
  const Inheritor heir(dir / "lock");
  const auto seen = status_of(dir / "lock");
  ASSERT_EQ(seen.holders.size(), 1U);
  EXPECT_FALSE(seen.holders.front().since);
}

TEST(Status, AStrangerWithTheTakersNumberIsNotTheHolder)
{
  const TempDir dir;
  const Inheritor heir(dir / "lock");
  const pid_t stranger = fork_as(heir.taker());
  if (stranger == 0) { GTEST_SKIP() << "clone3(2) with set_tid is not permitted"; }
  ASSERT_EQ(kernel_holders(dir / "lock").at(0).pid, stranger);
  const auto seen = status_of(dir / "lock");
  ::kill(stranger, SIGKILL);
  ::waitpid(stranger, nullptr, 0);
  EXPECT_EQ(sorted_pids_of(seen.holders), std::vector{heir.pid()});
}

// On its way through a socket a descriptor belongs to no process.
TEST(Status, TellsTheTakerThatIsGoneWhenNobodyIsSeen)
{
  const TempDir dir;
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
  const sys::Descriptor near(ends[0]);
  const sys::Descriptor far(ends[1]);
  Forked taker([&]() -> int {
    const HeldLock held(dir / "lock");
    alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))]{};
    msghdr message{};
    message.msg_control = space;
    message.msg_controllen = sizeof space;
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = held.fd();
    std::copy_n(reinterpret_cast<const char*>(&fd), sizeof fd, reinterpret_cast<char*>(CMSG_DATA(header)));
    ::_exit(::sendmsg(near.get(), &message, 0) < 0 ? 1 : 0); // without unlocking
  });
  const pid_t pid = taker.pid();
  ASSERT_EQ(taker.wait(), exited(0));
  const auto seen = status_of(dir / "lock");
  EXPECT_EQ(seen.state, LockState::exclusive);
  ASSERT_EQ(sorted_pids_of(seen.holders), std::vector{pid});
  EXPECT_EQ(seen.holders.front().evidence, Holder::Evidence::gone);
  EXPECT_TRUE(seen.holders.front().command.empty());
}

TEST(Status, OurOwnLocksHaveTheirMoment)
{
  const TempDir dir;
  const auto before = sys::wall_now();
  auto lock = acquire(request_for(dir / "lock"), {});
  ASSERT_TRUE(lock);
  const auto seen = status_of(dir / "lock");
  ASSERT_EQ(seen.holders.size(), 1U);
  EXPECT_EQ(seen.holders.front().since_kind, Holder::SinceKind::acquired);
  EXPECT_GE(*seen.holders.front().since, before - std::chrono::milliseconds(1));
  EXPECT_LE(*seen.holders.front().since, sys::wall_now());
}

TEST(Status, HolderOfBothKindsIsOne)
{
  const TempDir dir;
  auto lock = acquire(request_for(dir / "lock", Api::both), {});
  ASSERT_TRUE(lock);
  EXPECT_EQ(sorted_pids_of(status_of(dir / "lock").holders), std::vector{::getpid()});
}

TEST(Status, LooksAtDirectories)
{
  const TempDir dir;
  const HoldingProcess holder(dir.path());
  EXPECT_EQ(sorted_pids_of(status_of(dir.path()).holders), std::vector{holder.pid()});
}

TEST(Status, ListsThoseWhoWaitInTheirOrder)
{
  const TempDir dir;
  const auto path = dir / "lock";
  const HeldLock held(path);
  std::vector<Forked> waiters;
  for (int i = 1; i <= 3; ++i) {
    waiters.emplace_back([&] { return ::flock(::open(path.c_str(), O_RDONLY), i == 3 ? LOCK_SH : LOCK_EX); });
    ASSERT_TRUE(eventually([&] { return kernel_waiters(path) == i; }));
  }
  const auto seen = status_of(path);
  ASSERT_EQ(seen.waiters.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    const Waiter& waiter = seen.waiters[i];
    EXPECT_EQ(waiter.pid, waiters[i].pid());
    EXPECT_EQ(waiter.position, i + 1);
    EXPECT_EQ(waiter.mode, i == 2 ? Mode::shared : Mode::exclusive);
    EXPECT_EQ(waiter.user, ::geteuid());
    EXPECT_FALSE(waiter.command.empty());
  }
}

} // namespace
} // namespace lockrun::testing
