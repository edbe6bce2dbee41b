// Processes that are children of lockrun, or become them, and have nothing to do with the command: the shell that
// executed lockrun started them. They are never ended and never waited for.

#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"
#include "support/terminal.hpp"

#include <csignal>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

std::string name_of_process(pid_t pid)
{
  return read_file("/proc/" + std::to_string(pid) + "/comm");
}

class Strangers : public ::testing::Test {
protected:
  Strangers()
  {
    start.out = k_pipe;
    start.descriptors = {{6, gate.read_end}, {7, leash.read_end}, {8, strangers_leash.read_end}};
  }
  ~Strangers() override
  {
    strangers_leash.close_write();
    if (stranger != 0) {
      EXPECT_TRUE(eventually([&] { return !lives(stranger); }));
    }
  }

  // A shell starts a process that makes an orphan once the gate is open, and executes lockrun.
  Process run(const Words& options, const Words& command)
  {
    const std::string make_orphan = "(cat <&6 >&2; setsid sh -c 'echo stranger $$; exec cat <&8' &) &";
    Words argv{"sh", "-c", make_orphan + " exec \"$@\"", "sh"};
    Words arguments = options;
    arguments.push_back(lock);
    arguments.insert(arguments.end(), command.begin(), command.end());
    const auto program = lockrun_argv(arguments);
    argv.insert(argv.end(), program.begin(), program.end());
    Process lockrun(argv, start);
    return lockrun;
  }
  // A line "NAME NUMBER".
  static pid_t number_behind(const std::string& name, Process& lockrun)
  {
    const std::string line = lockrun.out_line().value_or("");
    EXPECT_EQ(line.substr(0, line.find(' ')), name);
    const auto space = line.find(' ');
    return space == std::string::npos ? 0 : std::stoi(line.substr(space));
  }
  // The stranger's parent ends, and another process takes its place.
  void make_orphan(Process& lockrun)
  {
    gate.close_write();
    stranger = number_behind("stranger", lockrun);
    ASSERT_GT(stranger, 0);
    ASSERT_TRUE(eventually([&] {
      const pid_t parent = parent_of(stranger);
      return parent == 1 || name_of_process(parent) != "sh\n";
    }));
  }

  TempDir dir;
  std::string lock = dir / "lock";
  Pipe gate;
  Pipe leash;
  Pipe strangers_leash;
  Start start;
  pid_t stranger = 0;
};

const Words k_stay{"sh", "-c", "echo command $$; exec cat <&7"};

TEST_F(Strangers, AreNotEndedWithTheTree)
{
  Process lockrun = run({"--max-hold", "5s"}, k_stay);
  (void)number_behind("command", lockrun);
  make_orphan(lockrun);
  EXPECT_EQ(lockrun.wait().status, exited(124));
  EXPECT_TRUE(lives(stranger));
  EXPECT_TRUE(is_free(lock));
}

TEST_F(Strangers, AreNotWaitedFor)
{
  for (const Words& options : {Words{"--hold", "tree"}, Words{"--hold", "tree", "--max-hold", "1h"}}) {
    Pipe gate_of_this;
    Pipe leash_of_this;
    start.descriptors = {{6, gate_of_this.read_end}, {7, leash_of_this.read_end}, {8, strangers_leash.read_end}};
    Process lockrun = run(options, {"sh", "-c", "echo command $$; cat <&7; exit 7"});
    (void)number_behind("command", lockrun);
    gate_of_this.close_write();
    make_orphan(lockrun);
    leash_of_this.close_write();
    EXPECT_EQ(lockrun.wait().status, exited(7));
    EXPECT_TRUE(lives(stranger));
    EXPECT_TRUE(is_free(lock));
  }
}

TEST_F(Strangers, AreNotLeftBehindByTheCommand)
{
  Process lockrun =
    run({"-v"}, {"sh", "-c", "echo command $$; " + program("detach") + " cat <&8 >/dev/null; cat <&7; exit 7"});
  (void)number_behind("command", lockrun);
  make_orphan(lockrun);
  leash.close_write();
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(7));
  EXPECT_THAT(ended.err, HasSubstr("(cat"));
  EXPECT_THAT(ended.err, Not(HasSubstr("PID " + std::to_string(stranger) + " ")));
}

// --- The process in front, which they are children of

TEST_F(Strangers, ASignalReachesTheCommandOnce)
{
  Process lockrun = run({"--max-hold", "1h"}, {program("signals"), "7"});
  (void)number_behind("ready", lockrun);
  for (const char* const name : {"TERM", "INT", "USR1", "HUP"}) {
    const std::string word(name);
    lockrun.signal(word == "TERM" ? SIGTERM : word == "INT" ? SIGINT : word == "USR1" ? SIGUSR1 : SIGHUP);
    EXPECT_EQ(lockrun.out_line(), word);
  }
  leash.close_write();
  gate.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(0));
}

TEST_F(Strangers, TheStatusIsTheCalls)
{
  EXPECT_EQ(run({"--max-hold", "1h"}, {"sh", "-c", "kill -KILL $$"}).wait().status, exited(137));
  const Finished missing = run({"-v"}, {"no-such-command-anywhere"}).wait();
  EXPECT_EQ(missing.status, exited(127));
  EXPECT_THAT(missing.err, HasSubstr("not found in PATH"));
  {
    const HeldLock held(lock);
    EXPECT_EQ(run({"--max-hold", "1h", "-n"}, {"true"}).wait().status, exited(75));
    Process waiting = run({"--max-hold", "1h"}, {"echo", "ran"});
    ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 1; }));
    waiting.signal(SIGTERM);
    const Finished ended = waiting.wait();
    EXPECT_EQ(ended.status, killed(SIGTERM));
  }
  gate.close_write();
}

TEST_F(Strangers, WhenLockrunIsKilledTheCommandKeepsTheLock)
{
  for (const bool front : {true, false}) {
    Pipe gate_of_this;
    Pipe leash_of_this;
    start.descriptors = {{6, gate_of_this.read_end}, {7, leash_of_this.read_end}, {8, strangers_leash.read_end}};
    Process lockrun = run({"--max-hold", "1h"}, k_stay);
    const pid_t command = number_behind("command", lockrun);
    const pid_t other = parent_of(command);
    ASSERT_NE(other, lockrun.pid());
    EXPECT_EQ(name_of_process(other), "lockrun\n");
    EXPECT_TRUE(eventually([&] { return name_of_process(lockrun.pid()) == "lr-front\n"; }));
    ASSERT_EQ(::kill(front ? lockrun.pid() : other, SIGKILL), 0);
    EXPECT_TRUE(eventually([&] { return !lives(other) && !lives(lockrun.pid()); }));
    EXPECT_TRUE(lives(command));
    EXPECT_FALSE(is_free(lock));
    leash_of_this.close_write();
    EXPECT_TRUE(eventually([&] { return is_free(lock); }));
    EXPECT_EQ(lockrun.wait().status, killed(SIGKILL));
  }
}

// A stranger cannot be there without a shell, but the first process of a container gets every orphan.
TEST_F(Strangers, TheFirstProcessOfAContainerHasThem)
{
  const Words in_container{"unshare", "-fp", "--mount-proc", "--kill-child"};
  Words probe = in_container;
  probe.emplace_back("true");
  if (run_program(probe).status != exited(0)) { GTEST_SKIP() << "no pid namespaces for us"; }
  Words argv = in_container;
  const auto program = lockrun_argv({"--hold", "tree", lock, "sh", "-c", "echo command $PPID; exit 7"});
  argv.insert(argv.end(), program.begin(), program.end());
  Process lockrun(argv, start);
  EXPECT_NE(number_behind("command", lockrun), 1);
  EXPECT_EQ(lockrun.wait().status, exited(7));
}

TEST_F(Strangers, KeysOnATerminalDoWhatTheyDoWithoutThem)
{
  Start in_terminal;
  in_terminal.directory = dir.path();
  in_terminal.descriptors = {{7, leash.read_end}, {8, strangers_leash.read_end}};
  in_terminal.environment = {{"LOCKRUN", lockrun_binary()}};
  Terminal bash(interactive_bash(), in_terminal);
  ASSERT_TRUE(bash.await("bash> "));
  bash.type("sh -c 'cat <&8 & exec $LOCKRUN --max-hold 1h lock sh -c \"echo started \\$\\$; exec cat <&7\"'\n");
  ASSERT_TRUE(bash.await("started "));
  const pid_t command = std::stoi(bash.rest_of_line());
  const pid_t lockrun = parent_of(command);
  const pid_t front = parent_of(lockrun);
  for (int i = 0; i < 2; ++i) {
    bash.type("\x1a");
    ASSERT_TRUE(bash.await("Stopped"));
    EXPECT_TRUE(
      eventually([&] { return state_of(command) == 'T' && state_of(lockrun) == 'T' && state_of(front) == 'T'; }));
    ASSERT_TRUE(bash.await("bash> "));
    bash.type("fg\n");
    EXPECT_TRUE(
      eventually([&] { return state_of(command) == 'S' && state_of(lockrun) == 'S' && state_of(front) == 'S'; }));
  }
  bash.type("\x03");
  ASSERT_TRUE(bash.await("bash> "));
  bash.type("echo status is $?\n");
  ASSERT_TRUE(bash.await("status is "));
  EXPECT_EQ(bash.rest_of_line(), "130");
  EXPECT_TRUE(is_free(lock));
}

} // namespace
} // namespace lockrun::testing
