// How long the lock is held: the table in section "How long it is held" of the manual, row by row.

#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"
#include "support/traced.hpp"

#include <csignal>
#include <filesystem>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;

// Stays until the test lets go of descriptor 8.
const std::string k_stay = "echo $$; exec cat <&8";

// The same as a daemon: forked twice, in a session of its own, with all descriptors.
std::string daemon_line()
{
  return program("detach") + " sh -c '" + k_stay + "'";
}

struct Row {
  const char* name;
  std::vector<std::string> options;
  bool inherits;
  bool waits_for_tree;
  bool held_when_killed;
  bool kept_by_daemon;
};

const Row k_rows[] = {
  {"Default", {}, true, false, true, false},
  {"Command", {"--hold", "command"}, true, false, true, false},
  {"CommandOfd", {"--api", "ofd"}, true, false, true, false},
  {"CommandBoth", {"--api", "both"}, true, false, true, false},
  {"CommandShared", {"-s"}, true, false, true, false},
  {"Tree", {"--hold", "tree"}, true, true, true, true},
  {"TreeBoth", {"--hold", "tree", "--api", "both"}, true, true, true, true},
  {"Wrapper", {"--hold", "wrapper"}, false, false, false, false},
  {"Close", {"-o"}, false, false, false, false},
  {"NoFork", {"-F"}, true, false, true, true},
  {"NoForkOfd", {"-F", "--api", "ofd"}, true, false, true, true},
};

class Lifetime : public ::testing::TestWithParam<Row> {
protected:
  Lifetime()
  {
    start.out = k_pipe;
    start.descriptors = {{8, leash.read_end}};
  }
  Process run(const std::string& script)
  {
    std::vector<std::string> arguments = GetParam().options;
    arguments.insert(arguments.end(), {lock, "sh", "-c", script});
    return Process(lockrun_argv(arguments), start);
  }
  bool is_free() const
  {
    for (const LockKind kind : {LockKind::flock, LockKind::ofd}) {
      if (!testing::is_free(lock, Mode::exclusive, kind)) { return false; }
    }
    return true;
  }
  // After lockrun was killed, or by nothing: a process that lockrun was just making (src/child/witness.hpp) has copies
  // of its descriptors for a moment.
  void expect_held_by_what_is_left() const
  {
    if (GetParam().held_when_killed) {
      EXPECT_FALSE(is_free());
    } else {
      EXPECT_TRUE(eventually([&] { return is_free(); }));
    }
  }

  TempDir dir;
  std::string lock = dir / "lock";
  Pipe leash; // closing it ends all that stay
  Start start;
};

TEST_P(Lifetime, TheCommandInheritsADescriptorOutOfItsWay)
{
  Process lockrun = run("cd /proc/$$/fd; for fd in *; do echo $fd $(readlink $fd); done");
  int found = 0;
  while (const auto line = lockrun.out_line()) {
    std::istringstream words(*line);
    int number = -1;
    std::string target;
    words >> number >> target;
    if (target != lock) { continue; }
    ++found;
    EXPECT_GE(number, 10);
  }
  EXPECT_EQ(lockrun.wait().status, exited(0));
  EXPECT_EQ(found, GetParam().inherits ? 1 : 0);
}

TEST_P(Lifetime, IsHeldWhileTheCommandRunsAndFreeBehindIt)
{
  Process lockrun = run("echo; exec cat <&8");
  ASSERT_EQ(lockrun.out_line(), "");
  EXPECT_FALSE(is_free());
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(0));
  EXPECT_TRUE(is_free());
}

TEST_P(Lifetime, ADaemonThatTheCommandLeavesBehind)
{
  Process lockrun = run("echo $$; " + daemon_line() + "; exit 3");
  const pid_t command = std::stoi(lockrun.out_line().value());
  const pid_t daemon = std::stoi(lockrun.out_line().value());
  if (GetParam().waits_for_tree) {
    ASSERT_TRUE(eventually([&] { return !std::filesystem::exists("/proc/" + std::to_string(command)); }));
    EXPECT_FALSE(is_free());
    EXPECT_TRUE(lives(lockrun.pid()));
    leash.close_write();
    EXPECT_EQ(lockrun.wait().status, exited(3));
    EXPECT_FALSE(lives(daemon));
    EXPECT_TRUE(is_free());
    return;
  }
  EXPECT_EQ(lockrun.wait().status, exited(3));
  EXPECT_EQ(is_free(), !GetParam().kept_by_daemon);
  EXPECT_TRUE(lives(daemon));
  leash.close_write();
  EXPECT_TRUE(eventually([&] { return is_free(); }));
}

TEST_P(Lifetime, LockrunIsKilledWithSigkill)
{
  Process lockrun = run(k_stay + " # one process");
  const pid_t command = std::stoi(lockrun.out_line().value());
  if (command == lockrun.pid()) { return; } // -F: there is no lockrun any more
  lockrun.signal(SIGKILL);
  EXPECT_EQ(lockrun.wait().status, killed(SIGKILL));
  EXPECT_TRUE(lives(command));
  expect_held_by_what_is_left();
  leash.close_write();
  EXPECT_TRUE(eventually([&] { return is_free(); }));
}

TEST_P(Lifetime, LockrunIsKilledWithSigkillAndTheCommandLeavesADaemonBehind)
{
  start.in = k_pipe; // the command ends when that does
  Process lockrun = run("echo $$; read line; " + daemon_line());
  const pid_t command = std::stoi(lockrun.out_line().value());
  if (command == lockrun.pid()) { return; }
  lockrun.signal(SIGKILL);
  EXPECT_EQ(lockrun.wait().status, killed(SIGKILL));
  lockrun.close_input();
  ASSERT_TRUE(lockrun.out_line()); // of the daemon
  ASSERT_TRUE(eventually([&] { return !lives(command); }));
  expect_held_by_what_is_left();
  leash.close_write();
  EXPECT_TRUE(eventually([&] { return is_free(); }));
}

INSTANTIATE_TEST_SUITE_P(
  Hold, Lifetime, ::testing::ValuesIn(k_rows), [](const auto& row) { return std::string(row.param.name); });

class LeftBehind : public ::testing::Test {
protected:
  Finished run(const std::vector<std::string>& options)
  {
    Start start;
    start.out = to_file(dir / "pids");
    start.descriptors = {{8, leash.read_end}};
    std::vector<std::string> arguments = options;
    arguments.insert(arguments.end(), {dir / "lock", "sh", "-c", daemon_line() + " & " + daemon_line() + "; wait"});
    return run_lockrun(arguments, start);
  }
  TempDir dir;
  Pipe leash;
};

TEST_F(LeftBehind, IsNamedWhenWeAreVerbose)
{
  const Finished ended = run({"-v"});
  EXPECT_EQ(ended.status, exited(0));
  std::string one;
  std::string other;
  ASSERT_TRUE(eventually([&] { return bool(std::istringstream(read_file(dir / "pids")) >> one >> other); }));
  EXPECT_THAT(ended.err, HasSubstr("lockrun: the command left running: PID "));
  for (const std::string& pid : {one, other}) {
    // The daemon has perhaps not become cat yet.
    EXPECT_TRUE(ended.err.find("PID " + pid + " (cat)") != std::string::npos ||
                ended.err.find("PID " + pid + " (sh)") != std::string::npos)
      << ended.err;
  }
}

TEST_F(LeftBehind, IsPassedOverInSilenceOtherwise)
{
  EXPECT_EQ(run({}).err, "");
}

TEST(Holding, NothingLeftBehindIsNothingToTell)
{
  const TempDir dir;
  for (const char* hold : {"command", "tree", "wrapper"}) {
    const auto told = run_lockrun({"-v", "--hold", hold, dir / "lock", "true"});
    EXPECT_THAT(told.err, ::testing::Not(::testing::HasSubstr("left running"))) << hold;
  }
}

TEST(Holding, CostsOneProcessAndNoThread)
{
  if (is_sanitized(lockrun_binary())) { GTEST_SKIP() << "the sanitizers start threads of their own"; }
  const TempDir dir;
  const auto starts_something = [](long call) {
#ifdef SYS_fork
    if (call == SYS_fork || call == SYS_vfork) { return true; }
#endif
    return call == SYS_clone || call == SYS_clone3;
  };
  for (const auto& [option, expected] :
    {std::pair("--hold=command", 1), {"--hold=tree", 1}, {"-o", 1}, {"-v", 1}, {"-F", 0}}) {
    Start start;
    start.before_exec = {Traced::on_start()};
    Process lockrun(lockrun_argv({option, dir / "lock", "true"}), start);
    Traced traced(lockrun.pid());
    int started = 0;
    while (traced.next() && traced.call() != SYS_execve) { // -F: it is the command from there on
      started += traced.at_entry() && starts_something(traced.call()) ? 1 : 0;
    }
    traced.let_go();
    EXPECT_EQ(lockrun.wait().status, exited(0));
    EXPECT_EQ(started, expected) << option;
  }
}

// sudo and most daemons do: all that they lose is the lock when lockrun is killed.
TEST(Holding, ACommandMayCloseWhatItInherits)
{
  const TempDir dir;
  const Pipe leash;
  Start start;
  start.out = k_pipe;
  start.descriptors = {{8, leash.read_end}};
  Process lockrun(lockrun_argv({dir / "lock", "bash", "-c", "exec 10>&-; echo; exec cat <&8"}), start);
  ASSERT_TRUE(lockrun.out_line());
  EXPECT_FALSE(is_free(dir / "lock"));
  lockrun.signal(SIGKILL);
  (void)lockrun.wait();
  EXPECT_TRUE(eventually([&] { return is_free(dir / "lock"); }));
}

// The kernel gives the orphans of a subreaper's descendants to it: what it does not reap stays a zombie.
TEST(Holding, OrphansAreReapedWhileTheCommandRuns)
{
  const TempDir dir;
  Start start;
  start.in = start.out = k_pipe;
  Process lockrun(lockrun_argv({dir / "lock", "sh", "-c", "(sh -c 'echo $PPID; exec true' &) ; read line"}), start);
  lockrun.out_line();
  EXPECT_TRUE(eventually([&] {
    const std::string pid = std::to_string(lockrun.pid());
    std::istringstream children(read_file("/proc/" + pid + "/task/" + pid + "/children"));
    int count = 0;
    for (std::string child; children >> child;) { ++count; }
    return count == 1;
  }));
  lockrun.close_input();
  (void)lockrun.wait();
}

} // namespace
} // namespace lockrun::testing
