#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "support/witness.hpp"

#include <csignal>
#include <vector>

#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

TEST(Process, TellsHowItEndedAndWhatItWrote)
{
  const auto ended = run_program({"sh", "-c", "echo out; echo err >&2; exit 3"});
  EXPECT_EQ(ended.status, exited(3));
  EXPECT_EQ(ended.out, "out\n");
  EXPECT_EQ(ended.err, "err\n");
  EXPECT_EQ(run_program({"sh", "-c", "kill -TERM $$"}).status, killed(SIGTERM));
  EXPECT_THROW(run_program({"/no/such/program"}), std::system_error);
}

TEST(Process, StartsWithWhatTheSetupSays)
{
  const TempDir dir;
  Start start;
  start.in = k_closed;
  start.environment = {{"LOCKRUN_A", "b"}, {"HOME", std::nullopt}};
  start.directory = dir.path();
  start.before_exec = {hostile::ignore(SIGCHLD), hostile::limit(RLIMIT_NOFILE, 20), hostile::umask(077)};
  const Pipe pipe;
  start.descriptors = {{7, pipe.write_end}};
  const auto ended = run_program({"sh", "-c",
                                   "ls -l /proc/self/fd/7 | sed 's/.*-> //; s/:.*//';"
                                   // Asked without a pipeline: its pipe would be the shell's descriptor 0 for a moment.
                                   "for fd in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$fd ] && printf '%s ' $fd; done;"
                                   "pwd; echo $LOCKRUN_A ${HOME-none}; ulimit -n; umask"},
    start);
  EXPECT_EQ(ended.out, "pipe\n1 2 7 " + dir.path().string() + "\nb none\n20\n0077\n");
}

TEST(Process, IsReadLineByLineAndWrittenTo)
{
  Start start;
  start.in = start.out = k_pipe;
  Process cat({"cat"}, start);
  cat.write("one\ntwo\n");
  EXPECT_EQ(cat.out_line(), "one");
  EXPECT_EQ(cat.out_line(), "two");
  cat.close_input();
  EXPECT_EQ(cat.out_line(), std::nullopt);
  EXPECT_EQ(cat.wait().status, exited(0));
}

TEST(Process, DropsToAnotherUser)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  Start start;
  start.before_exec = {hostile::become_user(k_nobody)};
  EXPECT_EQ(run_program({"id", "-u"}, start).out, "65534\n");
}

class EveryKind : public ::testing::TestWithParam<LockKind> {};

TEST_P(EveryKind, IsHeldUntilItIsReleased)
{
  for (const auto& under : {"/tmp", "/dev/shm"}) {
    const TempDir dir{under};
    const auto path = dir / "lock";
    HoldingProcess holder(path, Mode::exclusive, GetParam());
    EXPECT_FALSE(is_free(path, Mode::shared, GetParam()));
    const auto lines = kernel_holders(path);
    ASSERT_EQ(lines.size(), 1U);
    EXPECT_EQ(lines[0].mode, "WRITE");
    EXPECT_EQ(lines[0].pid, GetParam() == LockKind::ofd ? -1 : holder.pid());
    holder.release();
    EXPECT_TRUE(is_free(path, Mode::exclusive, GetParam()));
    EXPECT_TRUE(kernel_holders(path).empty());
  }
}
INSTANTIATE_TEST_SUITE_P(Kinds, EveryKind, ::testing::Values(LockKind::flock, LockKind::ofd, LockKind::posix),
  [](const auto& kind) { return name_of(kind.param); });

int meetings_of(int processes, bool with_lock)
{
  const TempDir dir;
  const Witness witness(dir.path());
  Gate gate;
  std::vector<Forked> visitors;
  for (int i = 0; i < processes; ++i) {
    visitors.emplace_back([&] {
      const int fd = ::open((dir / "lock").c_str(), O_RDWR | O_CREAT, 0666);
      gate.wait();
      for (int round = 0; round < 100; ++round) {
        if (with_lock) { ::flock(fd, LOCK_EX); }
        witness.visit();
        if (with_lock) { ::flock(fd, LOCK_UN); }
      }
      return 0;
    });
  }
  gate.open();
  for (Forked& visitor : visitors) { EXPECT_EQ(visitor.wait(), exited(0)); }
  EXPECT_EQ(witness.visits(), processes * 100);
  return witness.meetings();
}

TEST(Witness, SeesNobodyMeetUnderALock)
{
  EXPECT_EQ(meetings_of(4, true), 0);
}

TEST(Witness, SeesThemMeetWithoutALock)
{
  EXPECT_TRUE(eventually([] { return meetings_of(4, false) > 0; }));
}

TEST(KernelLocks, CountThoseWhoWait)
{
  const TempDir dir;
  const auto path = dir / "lock";
  HeldLock held(path);
  EXPECT_EQ(kernel_waiters(path), 0);
  Forked waiter([&] { return ::flock(::open(path.c_str(), O_RDONLY), LOCK_EX) == 0 ? 0 : 1; });
  EXPECT_TRUE(eventually([&] { return kernel_waiters(path) == 1; }));
  EXPECT_EQ(kernel_holders(path).size(), 1U);
  held.release();
  EXPECT_EQ(waiter.wait(), exited(0));
}

} // namespace
} // namespace lockrun::testing
