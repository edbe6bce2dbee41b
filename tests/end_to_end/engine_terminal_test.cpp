// Locks of engines at a terminal: keys, job control, hanging up.

#include "end_to_end/engine_fixture.hpp"
#include "support/eventually.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"
#include "support/terminal.hpp"

#include <csignal>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

// It waits, or has stopped, and no signal waits for it.
bool is_idle(pid_t pid)
{
  return is_asleep(pid) && word_of_status(pid, "ShdPnd:") == "0000000000000000";
}

// Its process group is the foreground one: fields 5 and 8 of proc(5).
bool has_terminal(pid_t pid)
{
  const std::string line = read_file("/proc/" + std::to_string(pid) + "/stat");
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  std::string state;
  int parent = 0;
  int group = 0;
  int session = 0;
  int terminal = 0;
  int foreground = 0;
  fields >> state >> parent >> group >> session >> terminal >> foreground;
  return foreground == group;
}

class EnginesAtATerminal : public Engines {
protected:
  void SetUp() override
  {
    plays(k_held + k_release);
    start.directory = dir.path();
    start.environment["LOCKRUN"] = lockrun_binary();
    start.environment["SIGNALS"] = program("signals");
    bash.emplace(interactive_bash(), start);
    ASSERT_TRUE(bash->await("bash> "));
  }
  // Enters a line that prints `word` and the command's number.
  void run_job(const std::string& line, const std::string& word)
  {
    bash->type(line + "\n");
    ASSERT_TRUE(bash->await(word + " "));
    command = there(std::stoi(bash->rest_of_line()));
    twin = there(parent_of(command));
    guard = there(parent_of(twin));
    ASSERT_TRUE(eventually([&] {
      // Until the guard knows of the command, Ctrl-Z stops it alone.
      return blocks_signal(guard, SIGTSTP) && child_called(twin, "signal-witness") != 0;
    }));
  }
  void expect_only(const std::string& signal)
  {
    ASSERT_TRUE(bash->await(signal));
    EXPECT_EQ(bash->rest_of_line(), "");
    ASSERT_EQ(::kill(guard, SIGUSR1), 0);                // what came before it has been passed on
    EXPECT_THAT(bash->rest_of_line(), EndsWith("USR1")); // perhaps after a prompt
  }
  void expect_status(int status)
  {
    ASSERT_TRUE(bash->await("bash> "));
    bash->type("echo status is $?\n");
    ASSERT_TRUE(bash->await("status is "));
    EXPECT_EQ(bash->rest_of_line(), std::to_string(status));
  }
  std::optional<Terminal> bash;
  pid_t command = 0;
  pid_t twin = 0;
  pid_t guard = 0;
};

TEST_F(EnginesAtATerminal, TheCommandGetsTheSignalOfAKeyOnce)
{
  for (const std::string before : {"", "setsid -w "}) {
    run_job("$LOCKRUN fake://host/deploy " + before + "$SIGNALS 8", "ready");
    for (const auto& [key, name] :
      {std::pair("\x03", "INT"), std::pair("\x1c", "QUIT"), std::pair("\x1a", "TSTP"), std::pair("\x03", "INT")}) {
      bash->type(key);
      expect_only(name);
    }
    bash->resize(before.empty() ? 100 : 120);
    expect_only("WINCH");
    ASSERT_EQ(::kill(guard, SIGKILL), 0);
    ASSERT_TRUE(bash->await("bash> "));
  }
}

TEST_F(EnginesAtATerminal, TheShellSignalsItsJobOnce)
{
  run_job("$LOCKRUN fake://host/deploy $SIGNALS 8 &", "ready");
  for (const std::string name : {"TERM", "INT", "HUP", "QUIT", "USR2"}) {
    bash->type("kill -" + name + " %1\n");
    expect_only(name);
  }
}

TEST_F(EnginesAtATerminal, CtrlZStopsTheCommandAndFgAndBgContinueIt)
{
  run_job("$LOCKRUN fake://host/deploy sh -c 'echo started $$; exec cat <&8'", "started");
  for (const std::string again : {"fg", "bg; fg", "fg"}) {
    bash->type("\x1a");
    ASSERT_TRUE(bash->await("Stopped"));
    EXPECT_TRUE(has_stopped(command));
    EXPECT_TRUE(has_stopped(guard));
    ASSERT_TRUE(bash->await("bash> "));
    bash->type(again + "\n");
    EXPECT_TRUE(eventually([&] { // the twin has heard that they go on
      return !has_stopped(command) && !has_stopped(guard) && has_terminal(guard) && is_idle(guard) && is_idle(twin);
    }));
  }
  leash.close_write();
  expect_status(0);
}

TEST_F(EnginesAtATerminal, ACommandThatStopsItselfStopsTheJob)
{
  run_job("$LOCKRUN fake://host/deploy bash -c 'trap \"echo continued\" CONT; echo started $$; read x <&7; kill -STOP "
          "$$; echo on; cat <&8'",
    "started");
  cue.close_write();
  ASSERT_TRUE(bash->await("Stopped"));
  EXPECT_TRUE(has_stopped(guard));
  ASSERT_TRUE(bash->await("bash> "));
  bash->type("fg\n");
  ASSERT_TRUE(bash->await("continued\r\n"));
  EXPECT_EQ(bash->rest_of_line(), "on"); // continued once
  leash.close_write();
  expect_status(0);
}

// Which process group has the terminal is to be asked where there is one: the guardian has none.
TEST_F(EnginesAtATerminal, InTheBackgroundACommandMayBeStoppedAndContinuedAlone)
{
  run_job("$LOCKRUN fake://host/deploy $SIGNALS 8 &", "ready");
  ASSERT_EQ(::kill(command, SIGSTOP), 0);
  ASSERT_TRUE(eventually([&] { return has_stopped(command) && is_idle(twin); }));
  ASSERT_EQ(::kill(guard, SIGUSR1), 0); // it hears the twin first
  ASSERT_TRUE(eventually([&] { return is_idle(guard); }));
  EXPECT_FALSE(has_stopped(guard));
  ASSERT_EQ(::kill(command, SIGCONT), 0);
  ASSERT_TRUE(bash->await("USR1"));
  EXPECT_THAT(bash->screen(), Not(HasSubstr("Stopped")));
}

TEST_F(EnginesAtATerminal, AWaitIsDrawnAnewAndLeavesNothing)
{
  plays(
    k_acquire +
    "send WAITING position=2 holder=PID%207%20on%20web1\nawait 7\nsend HELD token=7 ttl_ms=60000 deadline=@50000\n" +
    k_release);
  start.environment["TERM"] = "vt100";
  Terminal window(lockrun_argv({"-w", "1h", url, "echo", "got it"}), start);
  window.resize(200);
  const std::string line = "\rlockrun: waiting for 'fake://host/deploy', held by PID 7 on web1, we are number 2, ";
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(window.await(line));
    ASSERT_TRUE(window.await(" left\x1b[K"));
  }
  cue.close_write();
  ASSERT_TRUE(window.await("\r\x1b[K"));
  EXPECT_EQ(window.rest_of_line(), "got it");
}

TEST_F(EnginesAtATerminal, HangingUpEndsTheCommandAndGivesTheLockBack)
{
  run_job("$LOCKRUN fake://host/deploy sh -c 'echo started $$; exec cat <&8'", "started");
  bash->hang_up();
  EXPECT_TRUE(eventually([&] { return said().ends_with("RELEASE\n") && !lives(guard) && !lives(twin); }));
}

TEST_F(EnginesAtATerminal, HangingUpEndsTheCommandOfALeaderOfItsSession)
{
  Terminal window(lockrun_argv({url, "sh", "-c", "echo started $$; exec cat <&8"}), start);
  ASSERT_TRUE(window.await("started "));
  window.hang_up();
  EXPECT_TRUE(eventually([&] { return said().ends_with("RELEASE\n"); }));
}

TEST_F(EnginesAtATerminal, AJobThatIsKilledLeavesNothing)
{
  run_job("$LOCKRUN fake://host/deploy sh -c '" + program("detach") + " $SIGNALS 8; echo started $$; exec cat <&8' &",
    "started");
  bash->type("kill -9 %1\n");
  EXPECT_TRUE(eventually([&] { return said().ends_with("RELEASE\n") && !lives(command) && !lives(twin); }));
}

} // namespace
} // namespace lockrun::testing
