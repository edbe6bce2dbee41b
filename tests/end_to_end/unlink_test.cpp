// --unlink, and lock files that are removed by the command.

#include "end_to_end/trace.hpp"
#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "support/witness.hpp"

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

namespace lockrun::testing {
namespace {

using Words = std::vector<std::string>;

class Unlink : public ::testing::Test {
protected:
  Finished run(const Words& options, const std::string& script = "true")
  {
    Words arguments{"--unlink"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    arguments.insert(arguments.end(), {lock, "sh", "-c", script});
    return run_lockrun(arguments);
  }
  bool exists() const { return std::filesystem::exists(lock); }

  TempDir dir;
  std::filesystem::path lock = dir / "lock";
};

// --- Removed

class Removes : public Unlink, public ::testing::WithParamInterface<Words> {};
TEST_P(Removes, TheFileAtTheEnd)
{
  EXPECT_EQ(run(GetParam(), "test -e " + lock.string() + " && exit 3").status, exited(3));
  EXPECT_FALSE(exists());
}
INSTANTIATE_TEST_SUITE_P(Options, Removes,
  ::testing::Values(Words{}, Words{"-s"}, Words{"-o"}, Words{"--hold", "tree"}, Words{"--api", "ofd"},
    Words{"--api", "both"}, Words{"--max-hold", "1h"}, Words{"-w", "1h"}));

TEST_F(Unlink, RemovesTheFileWhenTheCommandCannotBeRun)
{
  EXPECT_EQ(run_lockrun({"--unlink", lock, "/no/such/command"}).status, exited(127));
  EXPECT_FALSE(exists());
}

TEST_F(Unlink, RemovesTheFileOfAShortenedPath)
{
  Start start;
  start.directory = dir.path();
  EXPECT_EQ(run_lockrun({"--unlink", "./lock", "true"}, start).status, exited(0));
  EXPECT_FALSE(exists());
}

// --- Left alone

TEST_F(Unlink, LeavesTheFileOfSomebodyElse)
{
  const HoldingProcess holder(lock);
  EXPECT_EQ(run({"-n"}).status, exited(75));
  EXPECT_TRUE(exists());
}

TEST_F(Unlink, LeavesAFileWithContent)
{
  write_file(lock, "data");
  EXPECT_EQ(run({}).status, exited(0));
  EXPECT_EQ(read_file(lock), "data");
}

TEST_F(Unlink, LeavesAFileThatTheCommandWroteTo)
{
  EXPECT_EQ(run({}, "echo data >" + lock.string()).status, exited(0));
  EXPECT_TRUE(exists());
}

TEST_F(Unlink, LeavesAFileWithASecondLink)
{
  write_file(lock, "");
  std::filesystem::create_hard_link(lock, dir / "second");
  EXPECT_EQ(run({}).status, exited(0));
  EXPECT_TRUE(exists());
}

TEST_F(Unlink, LeavesASymbolicLinkAndItsTarget)
{
  write_file(dir / "target", "");
  std::filesystem::create_symlink("target", lock);
  EXPECT_EQ(run({}).status, exited(0));
  EXPECT_TRUE(std::filesystem::is_symlink(lock));
  EXPECT_TRUE(std::filesystem::exists(dir / "target"));
}

TEST_F(Unlink, LeavesADirectory)
{
  std::filesystem::create_directory(lock);
  EXPECT_EQ(run({}).status, exited(0));
  EXPECT_TRUE(exists());
}

TEST_F(Unlink, LeavesAnotherFileOfTheSameName)
{
  EXPECT_EQ(run({}, "mv " + lock.string() + " " + lock.string() + ".old; : >" + lock.string()).status, exited(0));
  EXPECT_TRUE(exists());
  EXPECT_TRUE(std::filesystem::exists(lock.string() + ".old"));
}

TEST_F(Unlink, SaysNothingWhenTheCommandHasRemovedIt)
{
  EXPECT_EQ(run({}, "rm " + lock.string()).err, "");
}

TEST_F(Unlink, SaysThatItCouldNotBeRemovedAndIsReleasedAllTheSame)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  for (const char* const code : {"EPERM", "EACCES", "EROFS", "EBUSY"}) {
    const Words how{"-e", std::string("inject=unlink,unlinkat:error=") + code};
    const auto ended = run_program(traced(dir / "log", how, {"--unlink", "--also", dir / "another", lock, "true"}));
    EXPECT_EQ(ended.status, exited(0));
    EXPECT_THAT(ended.err, ::testing::HasSubstr("lockrun: cannot remove '" + dir.path().string()));
    EXPECT_THAT(ended.err, ::testing::HasSubstr(std::string(" (") + code + "); the lock on it is released\n"));
    EXPECT_THAT(ended.err, ::testing::Not(::testing::HasSubstr("unlock")));
    EXPECT_TRUE(is_free(lock));
  }
}

TEST_F(Unlink, SaysThatAnotherUsersFileInAStickyDirectoryCouldNotBeRemoved)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  ASSERT_EQ(::chmod(dir.path().c_str(), 01777), 0);
  write_file(lock, "", 0666);
  Start start;
  start.before_exec = {hostile::become_user(k_nobody)};
  const auto ended = run_lockrun({"--unlink", lock, "true"}, start);
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_EQ(ended.err,
    "lockrun: cannot remove '" + lock.string() + "': Operation not permitted (EPERM); the lock on it is released\n");
  EXPECT_TRUE(exists());
}

TEST_F(Unlink, LeavesAFileThatOthersShareToTheLastOfThem)
{
  Start start;
  start.in = start.out = k_pipe;
  Process first(lockrun_argv({"-s", "--unlink", lock, "sh", "-c", "echo; read line"}), start);
  Process second(lockrun_argv({"-s", "--unlink", lock, "sh", "-c", "echo; read line"}), start);
  ASSERT_TRUE(first.out_line());
  ASSERT_TRUE(second.out_line());
  first.close_input();
  (void)first.wait();
  EXPECT_TRUE(exists());
  EXPECT_FALSE(is_free(lock));
  second.close_input();
  (void)second.wait();
  EXPECT_FALSE(exists());
}

// --- Never two at once

// How many of those who visit a witness meet there, through lockrun with this argv in front, or without it.
int meetings(const Words& prefix, const std::string& epilogue)
{
  const TempDir dir;
  const Witness witness(dir.path());
  constexpr int k_processes = 4;
  constexpr int k_rounds = 12;
  Gate gate;
  std::vector<Forked> visitors;
  for (int i = 0; i < k_processes; ++i) {
    visitors.emplace_back([&] {
      gate.wait();
      Words argv = prefix;
      if (!argv.empty()) { argv.push_back(dir / "lock"); }
      argv.insert(argv.end(), {"sh", "-c", witness.visit_in_shell() + epilogue});
      Start start;
      start.directory = dir.path();
      int failures = 0;
      for (int round = 0; round < k_rounds; ++round) {
        failures += run_program(argv, start).status == exited(0) ? 0 : 1;
      }
      return failures;
    });
  }
  gate.open();
  for (Forked& visitor : visitors) { EXPECT_EQ(visitor.wait(), exited(0)); }
  EXPECT_EQ(witness.visits(), k_processes * k_rounds);
  return witness.meetings();
}

class NeverTwoAtOnce : public ::testing::TestWithParam<Words> {};
TEST_P(NeverTwoAtOnce, WhenEverybodyRemovesTheFile)
{
  Words prefix = lockrun_argv({"--unlink"});
  prefix.insert(prefix.end(), GetParam().begin(), GetParam().end());
  EXPECT_EQ(meetings(prefix, ""), 0);
}
TEST_P(NeverTwoAtOnce, WhenCommandsRemoveTheFileAtTheirEnd)
{
  Words prefix = lockrun_argv({});
  prefix.insert(prefix.end(), GetParam().begin(), GetParam().end());
  EXPECT_EQ(meetings(prefix, "; exec rm -f lock"), 0);
}
INSTANTIATE_TEST_SUITE_P(Options, NeverTwoAtOnce,
  ::testing::Values(Words{}, Words{"--api", "ofd"}, Words{"--hold", "tree"}, Words{"-w", "1h"}));

TEST(NeverTwoAtOnce, WouldBeSeenToFailWithoutTheLock)
{
  EXPECT_TRUE(eventually([] { return meetings({}, "") > 0; }));
}

// `lockrun L rm L` beside waiters: each waiter ends up with the file that the path names.
TEST_F(Unlink, ByTheCommandLeavesNoWaiterWithARemovedFile)
{
  for (int round = 0; round < 10; ++round) {
    HoldingProcess holder(lock);
    Process remover(lockrun_argv({lock, "rm", lock}));
    ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 1; }));
    Start start;
    start.in = start.out = k_pipe;
    Process waiter(lockrun_argv({lock, "sh", "-c", "echo; read line"}), start);
    ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 2; }));
    holder.release();
    EXPECT_EQ(remover.wait().status, exited(0));
    ASSERT_TRUE(waiter.out_line());
    ASSERT_TRUE(exists());
    EXPECT_FALSE(is_free(lock)); // a third one has to wait
    waiter.close_input();
    (void)waiter.wait();
  }
}

// `rm L` again and again beside waiters, and each time somebody else makes the file anew and holds it.
TEST_F(Unlink, ByAnybodyLeavesAllWaitersWithTheFileThatThePathNames)
{
  constexpr int k_waiters = 4;
  const Witness witness(dir.path());
  auto holder = std::make_unique<HoldingProcess>(lock);
  std::vector<Process> waiters;
  for (int i = 0; i < k_waiters; ++i) {
    waiters.emplace_back(lockrun_argv({lock, "sh", "-c", witness.visit_in_shell()}));
  }
  for (int round = 0; round < 10; ++round) {
    ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == k_waiters; }));
    std::filesystem::remove(lock);
    auto next = std::make_unique<HoldingProcess>(lock);
    holder->release();
    holder = std::move(next);
  }
  ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == k_waiters; }));
  EXPECT_EQ(witness.visits(), 0);
  holder->release();
  for (Process& waiter : waiters) { EXPECT_EQ(waiter.wait().status, exited(0)); }
  EXPECT_EQ(witness.visits(), k_waiters);
  EXPECT_EQ(witness.meetings(), 0);
}

} // namespace
} // namespace lockrun::testing
