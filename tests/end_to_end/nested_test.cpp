// A call inside a command that holds the lock already.

#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

// On a busy machine it may take so long to look that it says first that it waits.
std::string without_waiting(const std::string& err)
{
  return err.starts_with("lockrun: waiting for ") ? err.substr(err.find('\n') + 1) : err;
}

class NestedCall : public ::testing::Test {
protected:
  NestedCall() { ::chmod(dir.path().c_str(), 0777); }

  // The call inside, as a line for the shell; it would create the file "ran".
  std::string inner(const std::string& options, const std::string& command = "touch ran") const
  {
    return lockrun_binary() + " " + options + " " + lock + " " + command;
  }
  // A script inside a lockrun with these options.
  Finished run(const Words& options, const std::string& script)
  {
    Words arguments = options;
    arguments.insert(arguments.end(), {lock, "sh", "-c", script});
    start.directory = dir.path();
    return run_lockrun(arguments, start);
  }
  bool has_run() const { return std::filesystem::exists(dir / "ran"); }
  void expect_refused(const Finished& ended)
  {
    EXPECT_EQ(ended.status, exited(75));
    EXPECT_FALSE(has_run());
    EXPECT_THAT(without_waiting(ended.err), StartsWith("lockrun: '" + lock + "' is held "));
    EXPECT_THAT(ended.err,
      HasSubstr("\nlockrun: hint: use --nested run to run under that lock, or --nested wait to wait anyway"));
  }

  TempDir dir;
  std::string lock = dir / "lock";
  Start start;
};

// --- Fails at once, with every kind of holding, and behind shells

struct Row {
  const char* name;
  Words outer;
  const char* inner;
};
const Row k_rows[] = {
  {"Command", {}, ""},
  {"Tree", {"--hold", "tree"}, ""},
  {"Wrapper", {"-o"}, ""},
  {"NoFork", {"-F"}, ""},
  {"Limited", {"--max-hold", "1h"}, ""},
  {"InnerTimed", {}, "-w 1h"},
  {"InnerNoFork", {}, "-F"},
  {"InnerShared", {}, "-s"},
  {"OuterShared", {"-s"}, ""},
  {"Ofd", {"--api", "ofd"}, "--api ofd"},
  {"OfdWrapper", {"-o", "--api", "ofd"}, "--api ofd"},
  {"OfdInABoth", {"--api", "both"}, "--api ofd"},
  {"BothInAnOfd", {"--api", "ofd"}, "--api both"},
  {"Both", {"--api", "both"}, "--api both"},
  {"FairBothInAnOfd", {"-o", "--api", "ofd"}, "--fair --api both"},
  {"OverlappingRange", {"--start", "5", "--length", "5"}, "--start 9"},
};
class NestedFails : public NestedCall, public ::testing::WithParamInterface<Row> {};
TEST_P(NestedFails, Directly)
{
  expect_refused(run(GetParam().outer, "exec " + inner(GetParam().inner)));
}
TEST_P(NestedFails, SeveralShellsDeep)
{
  // Each shell has something left to do, so that it does not become the next.
  expect_refused(run(GetParam().outer, "sh -c '(" + inner(GetParam().inner) + "; exit $?); exit $?'; exit $?"));
}
// Where nothing tells in advance it is found out while we wait.
TEST_P(NestedFails, WithNothingInTheEnvironment)
{
  const Finished ended = run(GetParam().outer, "unset LOCKRUN_PID; exec " + inner(GetParam().inner));
  EXPECT_EQ(ended.status, exited(75));
  EXPECT_FALSE(has_run());
  EXPECT_THAT(without_waiting(ended.err), StartsWith("lockrun: '" + lock + "' is held "));
  EXPECT_THAT(
    ended.err, HasSubstr("\nlockrun: hint: use --nested run to run under that lock, or --nested wait to wait anyway"));
}
INSTANTIATE_TEST_SUITE_P(
  Table, NestedFails, ::testing::ValuesIn(k_rows), [](const auto& row) { return std::string(row.param.name); });

TEST_F(NestedCall, IsFoundOutBeforeTheTimeIsUp)
{
  expect_refused(run({"-o"}, "unset LOCKRUN_PID; exec " + inner("-w 1ms")));
}

TEST_F(NestedCall, IsFoundOutAlsoWhereTheKernelQueuesNoSignals)
{
  start.before_exec = {hostile::limit(RLIMIT_SIGPENDING, 0)};
  for (const char* options : {"", "-w 1h", "--fair"}) {
    expect_refused(run({"-o"}, std::string("unset LOCKRUN_PID; exec ") + inner(options)));
  }
}

TEST_F(NestedCall, NamesBothProcesses)
{
  start.out = k_pipe;
  start.directory = dir.path();
  Process outer(lockrun_argv({lock, "sh", "-c", "echo $$; exec " + inner("", "some command")}), start);
  const std::string us = outer.out_line().value();
  const std::string holder = std::to_string(outer.pid());
  const std::string err = outer.wait().err;
  EXPECT_THAT(without_waiting(err), StartsWith("lockrun: '" + lock + "' is held by PID " + holder + " ("));
  EXPECT_THAT(err, HasSubstr("), a parent process of this lockrun (PID " + us + "), which probably waits for it\n"));
}

TEST_F(NestedCall, FailsWithADescriptorThatAShellLocked)
{
  expect_refused(run_program({"sh", "-c", "exec 9>lock; flock 9; sh -c '" + inner("") + "; exit $?'"}, [&] {
    start.directory = dir.path();
    return start;
  }()));
}

TEST_F(NestedCall, FailsWithADescriptorThatLockrunLocked)
{
  start.directory = dir.path();
  expect_refused(
    run_program({"sh", "-c", "exec 9>lock; " + lockrun_binary() + " 9; sh -c '" + inner("") + "; exit $?'"}, start));
}

TEST_F(NestedCall, FailsForADescriptorToo)
{
  const Finished ended = run({}, "exec 9<lock; " + lockrun_binary() + " 9");
  EXPECT_EQ(ended.status, exited(75));
  EXPECT_THAT(without_waiting(ended.err), StartsWith("lockrun: descriptor 9 is held by PID "));
}

TEST_F(NestedCall, IsNoConflictOnTheVerySameDescriptor)
{
  start.directory = dir.path();
  const std::string lockrun = lockrun_binary();
  EXPECT_EQ(run_program(
              {"sh", "-c", "exec 9>lock; " + lockrun + " 9 && " + lockrun + " 9 && " + lockrun + " --fd 9 true"}, start)
              .status,
    exited(0));
}

TEST_F(NestedCall, IgnoresTheConflictExitCodeUnlessItDoesNotWait)
{
  EXPECT_EQ(run({}, inner("-E 9 -w 1h")).status, exited(75));
  const Finished busy = run({}, inner("-E 9 -n"));
  EXPECT_EQ(busy.status, exited(9));
  EXPECT_THAT(busy.err, Not(HasSubstr("parent process")));
}

TEST_F(NestedCall, IsNotMistakenWhereRangesAreApart)
{
  EXPECT_EQ(run({"--start", "0", "--length", "5"}, inner("--start 5")).status, exited(0));
  EXPECT_TRUE(has_run());
}

TEST_F(NestedCall, SharedInsideSharedJustWorks)
{
  for (const char* api : {"flock", "ofd", "both"}) {
    EXPECT_EQ(run({"-s", "--api", api}, inner(std::string("-s --api ") + api)).status, exited(0));
  }
  EXPECT_TRUE(has_run());
}

// --- Runs under the ancestor's lock

TEST_P(NestedFails, UnlessItMayRun)
{
  if (GetParam().outer == Words{"-s"}) { return; } // the next test
  for (const char* option : {"--nested run ", "--reentrant ", "-n --reentrant "}) {
    std::filesystem::remove(dir / "ran");
    const Finished ended =
      run(GetParam().outer, inner(option + std::string(GetParam().inner), "sh -c 'touch ran; exit 3'"));
    EXPECT_EQ(ended.status, exited(3));
    EXPECT_EQ(ended.err, "");
    EXPECT_TRUE(has_run());
  }
}

TEST_F(NestedCall, ThatNeedsMoreThanTheAncestorHasDoesNotRun)
{
  const Finished ended = run({"-s"}, inner("--reentrant"));
  EXPECT_EQ(ended.status, exited(75));
  EXPECT_THAT(ended.err, HasSubstr("no exclusive lock can be had under it"));
  EXPECT_FALSE(has_run());
}

TEST_F(NestedCall, ThatRunsReleasesAndRemovesNothing)
{
  start.in = start.out = k_pipe;
  start.directory = dir.path();
  Process outer(lockrun_argv({lock, "sh", "-c", inner("--reentrant --unlink") + "; echo; read line"}), start);
  ASSERT_TRUE(outer.out_line());
  EXPECT_TRUE(has_run());
  EXPECT_FALSE(is_free(lock));
  outer.close_input();
  EXPECT_NE(outer.wait().status, exited(75));
  EXPECT_TRUE(std::filesystem::exists(lock));
  EXPECT_TRUE(is_free(lock));
}

TEST_F(NestedCall, ThatRunsLeavesTheCommandItsDescriptor)
{
  const Finished ended = run({}, "exec 9<lock; " + lockrun_binary() + " --reentrant --fd 9 readlink /proc/self/fd/9");
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_EQ(ended.out, lock + "\n");
}

TEST_F(NestedCall, ThatMayRunWaitsForAStranger)
{
  HoldingProcess stranger(lock);
  start.directory = dir.path();
  Process call(lockrun_argv({"--reentrant", lock, "touch", "ran"}), start);
  ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 1; }));
  EXPECT_FALSE(has_run());
  stranger.release();
  EXPECT_EQ(call.wait().status, exited(0));
}

// --- Waits

TEST_F(NestedCall, WaitsWhenItIsToldTo)
{
  start.in = start.out = k_pipe;
  start.directory = dir.path();
  Process outer(
    lockrun_argv({lock, "sh", "-c", inner("--nested wait", "echo inner") + " & read line; echo outer"}), start);
  ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 1; }));
  outer.close_input();
  EXPECT_EQ(outer.out_line(), "outer");
  EXPECT_EQ(outer.out_line(), "inner");
  EXPECT_EQ(outer.wait().status, exited(0));
}

// --- Not nested

// It has the descriptor of a lock that was released.
TEST_F(NestedCall, IsNotMistakenInADaemonThatOutlivedTheHolder)
{
  const Pipe leash;
  start.out = k_pipe;
  start.directory = dir.path();
  Pipe go;
  start.descriptors = {{8, go.read_end}};
  Process outer(lockrun_argv({lock, program("detach"), "sh", "-c",
                  "echo; cat <&8; " + lockrun_binary() + " -w 20ms -E 9 " + lock + " true; echo $?"}),
    start);
  ASSERT_TRUE(outer.out_line());
  EXPECT_EQ(outer.wait().status, exited(0));
  const HoldingProcess another(lock);
  go.close_write();
  EXPECT_EQ(outer.out_line(), "9");
}

TEST_F(NestedCall, IsRightInADaemonThatTheHolderWaitsFor)
{
  start.out = k_pipe;
  start.directory = dir.path();
  Pipe go;
  start.descriptors = {{8, go.read_end}};
  Process outer(lockrun_argv({"--hold", "tree", lock, program("detach"), "sh", "-c",
                  "cat <&8; " + lockrun_binary() + " -w 1h -E 9 " + lock + " true; echo $?"}),
    start);
  go.close_write();
  EXPECT_EQ(outer.out_line(), "75");
  EXPECT_EQ(outer.wait().status, exited(0));
}

// --- Ancestors that we may not look into

class NestedForeign : public NestedCall, public ::testing::WithParamInterface<const char*> {};
TEST_P(NestedForeign, FailsToo)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  write_file(lock, "", 0666);
  // -o: it does not even inherit the descriptor.
  const Finished ended = run({"-o", "--api", GetParam()}, "setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '" +
                                                            inner("--api " + std::string(GetParam())) + "; exit $?'");
  expect_refused(ended);
}
INSTANTIATE_TEST_SUITE_P(
  Api, NestedForeign, ::testing::Values("flock", "both"), [](const auto& row) { return std::string(row.param); });

} // namespace
} // namespace lockrun::testing
