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

// The shell's other children are lockrun's, too, once it has become one.
TEST_F(NestedCall, IsFoundOutBesideStrangersAmongTheHoldersChildren)
{
  start.directory = dir.path();
  const Pipe leash;
  start.descriptors = {{8, leash.read_end}};
  for (const std::string options : {"", "-v", "--max-hold 1h", "--hold tree"}) {
    const std::string outer = lockrun_binary() + " " + options + " " + lock;
    Process shell({"sh", "-c", "cat <&8 & exec 8<&-; exec " + outer + " sh -c '" + inner("-w 1h") + "'"}, start);
    const Finished ended = shell.wait();
    EXPECT_EQ(ended.status, exited(75)) << options;
    EXPECT_THAT(ended.err, HasSubstr("a parent process of this lockrun")) << options;
  }
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
    EXPECT_EQ(without_waiting(ended.err), "");
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

// --- What the ancestor's lock does not cover is waited for

struct PartRow {
  const char* name;
  const char* outer;
  LockKind kind; // of a stranger's lock
  Range range;
  const char* inner;
};
constexpr std::int64_t k_first_slot = (std::int64_t{1} << 62) + (std::int64_t{1} << 20);
const PartRow k_parts[] = {
  {"EndOfRange", "--start 0 --length 10", LockKind::ofd, {10, 10}, "--start 0 --length 20"},
  {"BeginningOfRange", "--start 10 --length 10", LockKind::ofd, {0, 10}, "--start 0 --length 20"},
  {"BothEndsOfRange", "--start 10 --length 10", LockKind::ofd, {25, 1}, "--start 0 --length 30"},
  {"PosixInTheRest", "--start 0 --length 10", LockKind::posix, {10, 10}, "--start 0 --length 20"},
  {"OfdOfBoth", "", LockKind::ofd, {}, "--api both"},
  {"FlockOfBoth", "--api ofd", LockKind::flock, {}, "--api both"},
  {"OfdOfBothInTurn", "", LockKind::ofd, {}, "--fair --api both"},
  {"FlockOfBothInTurn", "--api ofd", LockKind::flock, {}, "--fair --api both"},
  {"EndOfRangeInTurn", "--start 0 --length 10", LockKind::ofd, {10, 10}, "--fair --start 0 --length 20"},
  {"Slot", "", LockKind::ofd, {k_first_slot, 1}, "-j1"},
  {"OfdBesideSharedFlock", "-s", LockKind::ofd, {}, "--api both -s"},
};
class NestedPartly : public NestedCall, public ::testing::WithParamInterface<PartRow> {};
TEST_P(NestedPartly, WaitsForTheRest)
{
  HoldingProcess stranger(lock, Mode::exclusive, GetParam().kind, GetParam().range);
  start.directory = dir.path();
  const std::string call = inner("--nested run " + std::string(GetParam().inner));
  Process outer({"sh", "-c", "exec " + lockrun_binary() + " " + GetParam().outer + " " + lock + " " + call}, start);
  ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) > 0; }));
  EXPECT_FALSE(has_run());
  stranger.release();
  EXPECT_EQ(outer.wait().status, exited(0));
  EXPECT_TRUE(has_run());
}
TEST_P(NestedPartly, IsBusyWhereItMayNotWait)
{
  const HoldingProcess stranger(lock, Mode::exclusive, GetParam().kind, GetParam().range);
  start.directory = dir.path();
  const std::string call = inner("-n -E 9 --nested run " + std::string(GetParam().inner));
  const Finished ended =
    run_program({"sh", "-c", lockrun_binary() + " " + GetParam().outer + " " + lock + " " + call}, start);
  EXPECT_EQ(ended.status, exited(9));
  EXPECT_FALSE(has_run());
}
TEST_P(NestedPartly, HoldsTheRestWhileItRuns)
{
  start.directory = dir.path();
  start.in = start.out = k_pipe;
  const std::string call = inner("--nested run " + std::string(GetParam().inner), "sh -c 'echo; read line; :'");
  Process outer({"sh", "-c", lockrun_binary() + " " + GetParam().outer + " " + lock + " " + call}, start);
  ASSERT_TRUE(outer.out_line());
  const Mode wanted = std::string(GetParam().inner).ends_with("-s") ? Mode::exclusive : Mode::shared;
  EXPECT_FALSE(is_free(lock, wanted, GetParam().kind, GetParam().range));
  outer.close_input();
  EXPECT_EQ(outer.wait().status, exited(0));
  EXPECT_TRUE(is_free(lock, Mode::exclusive, GetParam().kind, GetParam().range));
}
INSTANTIATE_TEST_SUITE_P(
  Of, NestedPartly, ::testing::ValuesIn(k_parts), [](const auto& row) { return std::string(row.param.name); });

TEST_F(NestedCall, RunsUnderWhatSeveralAncestorsHoldBetweenThem)
{
  const std::string call = inner("-n --nested run --start 0 --length 20");
  EXPECT_EQ(run({"--start", "0", "--length", "10"}, inner("--start 10 --length 10", call)).status, exited(0));
  EXPECT_TRUE(has_run());
}

TEST_F(NestedCall, TakesEachOfSeveralLocksThatNoAncestorHolds)
{
  const std::string other = dir / "other";
  HoldingProcess stranger(other);
  start.directory = dir.path();
  Process outer(
    lockrun_argv({lock, "sh", "-c", inner("--nested run --also " + other, "touch ran") + "; exit $?"}), start);
  ASSERT_TRUE(eventually([&] { return kernel_waiters(other) == 1; }));
  EXPECT_FALSE(has_run());
  stranger.release();
  EXPECT_EQ(outer.wait().status, exited(0));
  EXPECT_TRUE(has_run());
}

TEST_F(NestedCall, GivesItsSlotToTheCommandAlsoUnderAnExclusiveLock)
{
  EXPECT_EQ(run({}, inner("--nested run -j2", "sh -c 'echo $LOCKRUN_SLOT'")).out, "0\n");
}

// The lock was there before: who opened the descriptor goes on relying on it.
TEST_F(NestedCall, LeavesTheLockThatItsDescriptorHadBefore)
{
  start.directory = dir.path();
  const std::string lockrun = lockrun_binary();
  for (const std::string options : {"", "--api both", "--api ofd", "--start 5 --length 5"}) {
    std::string inside = options;
    if (options.starts_with("--start")) { inside = "--start 0 --length 20"; }
    const std::string script = "exec 9<>lock; " + lockrun + " " + options + " 9; " + lockrun + " --nested run " +
                               inside + " --fd 9 true && " + lockrun + " -nE 9 " + options + " lock true";
    EXPECT_EQ(run_program({"sh", "-c", script}, start).status, exited(9)) << options;
  }
}

// --- An ancestor's lock of the other kind of fcntl(2)

TEST_F(NestedCall, KnowsAPosixLockOfAnAncestor)
{
  const HeldLock ours(lock, Mode::exclusive, LockKind::posix); // this process is the parent
  start.directory = dir.path();
  expect_refused(run_lockrun({"--api", "ofd", lock, "touch", "ran"}, start));
  EXPECT_EQ(run_lockrun({"--nested", "run", "--api", "ofd", lock, "touch", "ran"}, start).status, exited(0));
}

// --- A lock of the very same descriptor is in nobody's way

struct OwnRow {
  const char* name;
  const char* first;
  const char* second;
  LockKind kind; // of a stranger's lock
  Mode mode;
  Range range;
};
const OwnRow k_own[] = {
  {"UpgradeOfAnOfdLock", "--api ofd -s", "--api ofd -x", LockKind::ofd, Mode::shared, {}},
  {"UpgradeBesideAPosixLock", "--api ofd -s", "--api ofd -x", LockKind::posix, Mode::shared, {}},
  {"UpgradeOfAFlock", "-s", "-x", LockKind::flock, Mode::shared, {}},
  {"UpgradeOfBoth", "--api both -s", "--api both -x", LockKind::ofd, Mode::shared, {}},
  {"LongerRange", "--start 0 --length 5", "--start 0 --length 10", LockKind::ofd, Mode::exclusive, {5, 5}},
};
class OwnLock : public NestedCall, public ::testing::WithParamInterface<OwnRow> {};
TEST_P(OwnLock, IsNotMistakenForAnAncestors)
{
  HoldingProcess stranger(lock, GetParam().mode, GetParam().kind, GetParam().range);
  start.directory = dir.path();
  const std::string lockrun = lockrun_binary() + " ";
  Process shell(
    {"sh", "-c", "exec 9<>lock; " + lockrun + GetParam().first + " 9; " + lockrun + GetParam().second + " 9"}, start);
  ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 1; }));
  stranger.release();
  EXPECT_EQ(shell.wait().status, exited(0));
}
INSTANTIATE_TEST_SUITE_P(
  Of, OwnLock, ::testing::ValuesIn(k_own), [](const auto& row) { return std::string(row.param.name); });

TEST_F(NestedCall, AnotherDescriptorOfTheSameProcessIsInTheWay)
{
  start.directory = dir.path();
  const std::string lockrun = lockrun_binary() + " ";
  const Finished ended = run_program({"sh", "-c",
                                       "exec 8<>lock 9<>lock; " + lockrun + "--api ofd -s 8; " + lockrun +
                                         "--api ofd -s 9; exec " + lockrun + "--api ofd -x 9"},
    start);
  EXPECT_EQ(ended.status, exited(75));
  EXPECT_THAT(ended.err, HasSubstr("descriptor 9 is held "));
}

TEST_F(NestedCall, ADescriptorThatLostItsSharedLockIsReported)
{
  const HoldingProcess reader(lock, Mode::shared);
  start.directory = dir.path();
  const std::string lockrun = lockrun_binary();
  const Finished ended =
    run_program({"sh", "-c", "exec 9<lock; " + lockrun + " -s 9; exec " + lockrun + " -qn 9"}, start);
  EXPECT_EQ(ended.status, exited(75));
  EXPECT_EQ(ended.err,
    "lockrun: descriptor 9 is not locked any more: the kernel gave up its shared lock to try for the exclusive one\n");
  const Finished fresh = run_program({"sh", "-c", "exec 9<lock; exec " + lockrun + " -qn 9"}, start);
  EXPECT_EQ(fresh.err, "");
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

// --- An orphan that the holder has adopted, or inherited the lock from, is not waited for

struct OrphanRow {
  const char* name;
  Words outer;
  const char* inner;
};
const OrphanRow k_orphans[] = {
  {"Plain", {}, ""},
  {"PlainOfd", {"--api", "ofd"}, "--api ofd"},
  {"Verbose", {"-v"}, ""},
  {"VerboseOfd", {"-v", "--api", "ofd"}, "--api ofd"},
  {"Limited", {"--max-hold", "1h"}, ""},
  {"LimitedWrapper", {"-o", "--max-hold", "1h"}, ""},
  {"ThatMayRun", {"--max-hold", "1h"}, "--nested run"},
  {"InTurn", {"-v"}, "--fair"},
};
class OrphanOfACommand : public NestedCall {
protected:
  // The command leaves a daemon behind that calls, and ends with its input.
  Process outer(Words options, const std::string& inner_options)
  {
    start.in = start.out = k_pipe;
    start.directory = dir.path();
    const std::string daemon = inner(inner_options, "echo got") + "; echo $?";
    options.insert(options.end(), {lock, "sh", "-c", program("detach") + " sh -c '" + daemon + "'; read line; :"});
    return Process(lockrun_argv(options), start);
  }
};
class Orphan : public OrphanOfACommand, public ::testing::WithParamInterface<OrphanRow> {};
TEST_P(Orphan, WaitsUntilTheCommandEnds)
{
  Process holder = outer(GetParam().outer, GetParam().inner);
  ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) > 0; }));
  holder.close_input();
  EXPECT_EQ(holder.out_line(), "got");
  EXPECT_EQ(holder.out_line(), "0");
  EXPECT_EQ(holder.wait().status, exited(0));
}
INSTANTIATE_TEST_SUITE_P(
  Of, Orphan, ::testing::ValuesIn(k_orphans), [](const auto& row) { return std::string(row.param.name); });

TEST_F(OrphanOfACommand, WaitsAlsoWhereTheHolderHasStrangersAmongItsChildren)
{
  start.in = start.out = k_pipe;
  start.directory = dir.path();
  const Pipe leash;
  start.descriptors = {{8, leash.read_end}};
  for (const std::string options : {"-v", "--max-hold 1h"}) {
    const std::string command = program("detach") + " sh -c \"" + inner("", "echo got") + "\"; read line; :";
    Process holder(
      {"sh", "-c",
        "cat <&8 >&- & exec 8<&-; exec " + lockrun_binary() + " " + options + " " + lock + " sh -c '" + command + "'"},
      start);
    ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 1; }));
    holder.close_input();
    EXPECT_EQ(holder.out_line(), "got");
    EXPECT_EQ(holder.wait().status, exited(0));
  }
}

// The holder waits for it once the command has ended.
TEST_F(OrphanOfACommand, IsToldOnceItIsWaitedFor)
{
  Process holder = outer({"--hold", "tree"}, "");
  ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 1; }));
  holder.close_input();
  EXPECT_EQ(holder.out_line(), "75");
  EXPECT_EQ(holder.wait().status, exited(0));
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

TEST_P(NestedForeign, RunsUnderTheirLock)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  if (GetParam() != std::string("flock")) { return; } // whose ofd lock it is, nobody can see
  write_file(lock, "", 0666);
  EXPECT_EQ(
    run({"-o"}, "setpriv --reuid 65534 --regid 65534 --clear-groups " + inner("--nested run") + "; exit $?").status,
    exited(0));
  EXPECT_TRUE(has_run());
}

// Of two file systems that were just made the first files have the same number, and so have those of btrfs subvolumes.
class OtherFileSystem : public NestedCall {
protected:
  // Runs a script that mounts what it needs where nobody else sees it.
  Finished run_mounting(const std::string& script)
  {
    start.directory = dir.path();
    start.environment["job"] = "setpriv --reuid 65534 --regid 65534 --clear-groups " + lockrun_binary();
    start.environment["lr"] = lockrun_binary();
    return run_program({"unshare", "-m", "sh", "-c", script}, start);
  }
};

TEST_F(OtherFileSystem, WithAFileOfTheSameNumberIsNotMistaken)
{
  const Finished ended = run_mounting("mkdir a b; mount -t tmpfs none a && mount -t tmpfs none b || exit 99;"
                                      "chmod 777 a b; : >a/f; : >b/f; chmod 666 a/f b/f;"
                                      "test $(stat -c %i a/f) = $(stat -c %i b/f) || exit 99;"
                                      "exec 8<b/f; flock 8; sleep 1h & holder=$!; exec 8<&-;" // a stranger has it
                                      "$lr -o a/f $job -n -E 5 --nested run b/f touch ran; echo $?;"
                                      "$lr -o a/f $job -w 400ms -E 5 b/f touch ran; echo $?;"
                                      "kill $holder");
  if (ended.status == exited(99) || ended.out.empty()) { GTEST_SKIP() << "cannot mount: " << ended.err; }
  EXPECT_EQ(ended.out, "5\n5\n");
  EXPECT_FALSE(has_run());
}

TEST_F(OtherFileSystem, ThatIsAnOverlayIsSeenThrough)
{
  const Finished ended =
    run_mounting("mkdir lower rest; mount -t tmpfs none lower && mount -t tmpfs none rest || exit 99;"
                 "mkdir rest/upper rest/work m; : >lower/f; chmod 666 lower/f; chmod 777 rest/upper;"
                 "mount -t overlay none -o lowerdir=lower,upperdir=rest/upper,workdir=rest/work m || exit 99;"
                 "test $(stat -c %d m/f) != $(stat -c %d m) || exit 99;"
                 "$lr -o m/f $job m/f touch ran; echo $?;"
                 "$lr -o m/f $job --nested run m/f echo run;"
                 "$lr -o m/f $lr --nested run m/f echo run;"
                 "$lr m/f $job --status --json m/f | grep -c exclusive");
  if (ended.status == exited(99) || ended.out.empty()) { GTEST_SKIP() << "cannot mount: " << ended.err; }
  EXPECT_TRUE(ended.out.starts_with("75\nrun\nrun\n")) << ended.out << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("a parent process of this lockrun"));
  EXPECT_FALSE(has_run());
}

} // namespace
} // namespace lockrun::testing
