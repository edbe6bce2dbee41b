// Keys on a terminal: a real one of its own, with an interactive bash that controls jobs.

#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"
#include "support/terminal.hpp"

#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;
using ::testing::Not;

constexpr const char* k_ctrl_c = "\x03";
constexpr const char* k_ctrl_z = "\x1a";
constexpr const char* k_ctrl_backslash = "\x1c";

// It waits for the next signal, and SIGCHLD is none that is pending.
bool has_heard_of_children(pid_t pid)
{
  std::istringstream words(read_file("/proc/" + std::to_string(pid) + "/status"));
  for (std::string word; words >> word;) {
    std::uint64_t pending = 0;
    if (word == "ShdPnd:" && words >> std::hex >> pending) {
      return (pending & (std::uint64_t{1} << (SIGCHLD - 1))) == 0 && is_asleep(pid);
    }
  }
  return false;
}

class AtATerminal : public ::testing::Test {
protected:
  AtATerminal() : bash(interactive_bash(), start()) { EXPECT_TRUE(bash.await("bash> ")); }

  Start start()
  {
    Start result;
    result.directory = dir.path();
    result.descriptors = {{8, leash.read_end}};
    result.environment = {{"LOCKRUN", lockrun_binary()}, {"SIGNALS", program("signals")}};
    return result;
  }
  void enter(const std::string& line) { bash.type(line + "\n"); }

  // Enters a line that runs a command which prints its signals.
  void run_printer(const std::string& line) { run(line, "ready "); }
  // Enters a line that prints "started" and a number.
  void run_command(const std::string& line) { run(line, "started "); }
  // lockrun has passed on all that it got, and the command has printed all that it got, when this one arrives.
  void expect_nothing_more()
  {
    ASSERT_EQ(::kill(lockrun, SIGUSR1), 0);
    EXPECT_EQ(bash.rest_of_line(), "USR1");
  }
  void expect_status(int status)
  {
    ASSERT_TRUE(bash.await("bash> "));
    enter("echo status is $?");
    ASSERT_TRUE(bash.await("status is "));
    EXPECT_EQ(bash.rest_of_line(), std::to_string(status));
  }

  TempDir dir;
  std::string lock = dir / "lock";
  Pipe leash;
  Terminal bash;
  pid_t command = 0;
  pid_t lockrun = 0;

private:
  // The command may be there before lockrun knows: until then Ctrl-Z stops lockrun alone.
  void run(const std::string& line, const std::string& word)
  {
    enter(line);
    ASSERT_TRUE(bash.await(word));
    command = std::stoi(bash.rest_of_line());
    lockrun = parent_of(command);
    // sigtimedwait(2) unblocks what it waits for; before, this one is blocked. Or it has stopped with its command.
    ASSERT_TRUE(eventually([&] { return !blocks_signal(lockrun, SIGTERM) || has_stopped(lockrun); }));
  }
};

const std::string k_stay = "sh -c 'echo started $$; exec cat <&8'";

// --- Signals from keys

struct KeyRow {
  const char* name;
  const char* key;
  const char* signal;
};
constexpr KeyRow k_keys[] = {
  {"Interrupt", k_ctrl_c, "INT"},
  {"Quit", k_ctrl_backslash, "QUIT"},
  {"Suspend", k_ctrl_z, "TSTP"},
  {"Resize", nullptr, "WINCH"},
};
void PrintTo(const KeyRow& row, std::ostream* out)
{
  *out << row.signal;
}
class Keys : public AtATerminal, public ::testing::WithParamInterface<KeyRow> {
protected:
  void check()
  {
    for (const int columns : {100, 120}) { // twice: the second one does no harm
      if (GetParam().key == nullptr) {
        bash.resize(columns);
      } else {
        bash.type(GetParam().key);
      }
      ASSERT_TRUE(bash.await(GetParam().signal));
      EXPECT_EQ(bash.rest_of_line(), "");
      expect_nothing_more();
    }
    EXPECT_FALSE(is_free(lock));
    leash.close_write();
    expect_status(0);
    EXPECT_TRUE(is_free(lock));
  }
};
TEST_P(Keys, ReachTheCommandOnce)
{
  run_printer("$LOCKRUN lock $SIGNALS 8");
  check();
}
TEST_P(Keys, ReachACommandInAGroupOfItsOwnOnce)
{
  run_printer("$LOCKRUN lock setsid -w $SIGNALS 8");
  check();
}
INSTANTIATE_TEST_SUITE_P(
  Table, Keys, ::testing::ValuesIn(k_keys), [](const auto& row) { return std::string(row.param.name); });

TEST_F(AtATerminal, CtrlCEndsTheCommandAndThenLockrun)
{
  run_command("$LOCKRUN lock " + k_stay);
  EXPECT_FALSE(is_free(lock));
  bash.type(k_ctrl_c);
  expect_status(128 + SIGINT);
  EXPECT_TRUE(is_free(lock));
}

// A shell ends a loop on Ctrl-C only when what it runs died of SIGINT itself.
TEST_F(AtATerminal, CtrlCEndsALoopAroundLockrun)
{
  write_file(dir / "loop", "for i in 1 2 3; do $LOCKRUN lock " + k_stay + "; done; echo behind the loop\n");
  run_command("bash loop");
  bash.type(k_ctrl_c);
  ASSERT_TRUE(bash.await("bash> "));
  enter("echo '[' $? ']'");
  ASSERT_TRUE(bash.await("[ "));
  EXPECT_EQ(bash.rest_of_line(), "130 ]");
  EXPECT_THAT(bash.screen(), Not(HasSubstr("behind the loop")));
}

TEST_F(AtATerminal, CtrlCWhileWaitingRunsNothing)
{
  const HoldingProcess holder(lock);
  enter("$LOCKRUN lock touch ran");
  ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 1; }));
  bash.type(k_ctrl_c);
  expect_status(128 + SIGINT);
  EXPECT_FALSE(std::filesystem::exists(dir / "ran"));
}

TEST_F(AtATerminal, HangingUpEndsTheCommandAndThenLockrun)
{
  {
    Terminal another(interactive_bash(), start());
    ASSERT_TRUE(another.await("bash> "));
    another.type("$LOCKRUN lock " + k_stay + "\n");
    ASSERT_TRUE(another.await("started "));
    EXPECT_FALSE(is_free(lock));
  }
  EXPECT_TRUE(eventually([&] { return is_free(lock); }));
}

// As in a window that was opened for this command alone.
TEST_F(AtATerminal, HangingUpEndsTheCommandOfALeaderOfItsSession)
{
  Terminal another(lockrun_argv({lock, "sh", "-c", "echo started $$; exec cat <&8"}), start());
  ASSERT_TRUE(another.await("started "));
  EXPECT_FALSE(is_free(lock));
  another.hang_up();
  EXPECT_TRUE(eventually([&] { return is_free(lock); }));
}

// --- Stopping and going on

TEST_F(AtATerminal, CtrlZStopsTheCommandAndFgContinuesIt)
{
  run_command("$LOCKRUN lock " + k_stay);
  for (const char* again : {"fg", "fg"}) {
    bash.type(k_ctrl_z);
    ASSERT_TRUE(bash.await("Stopped"));
    EXPECT_EQ(state_of(command), 'T');
    EXPECT_EQ(state_of(lockrun), 'T');
    EXPECT_FALSE(is_free(lock));
    ASSERT_TRUE(bash.await("bash> "));
    enter(again);
    EXPECT_TRUE(eventually([&] { return state_of(command) == 'S' && state_of(lockrun) == 'S'; }));
  }
  leash.close_write();
  expect_status(0);
  EXPECT_TRUE(is_free(lock));
}

TEST_F(AtATerminal, BgContinuesItToo)
{
  run_command("$LOCKRUN lock " + k_stay);
  bash.type(k_ctrl_z);
  ASSERT_TRUE(bash.await("Stopped"));
  enter("bg");
  EXPECT_TRUE(eventually([&] { return state_of(command) == 'S' && state_of(lockrun) == 'S'; }));
  leash.close_write();
  EXPECT_TRUE(eventually([&] { return is_free(lock); }));
}

TEST_F(AtATerminal, ACommandThatStopsItselfStopsTheJob)
{
  run_command(
    "$LOCKRUN lock bash -c 'trap \"echo continued\" CONT; echo started $$; kill -STOP $$; echo behind; cat <&8'");
  ASSERT_TRUE(bash.await("Stopped"));
  EXPECT_EQ(state_of(lockrun), 'T');
  ASSERT_TRUE(bash.await("bash> "));
  enter("fg");
  ASSERT_TRUE(bash.await("continued\r\n"));
  EXPECT_EQ(bash.rest_of_line(), "behind"); // continued once
  leash.close_write();
  expect_status(0);
}

TEST_F(AtATerminal, ACommandInAGroupOfItsOwnStopsAlone)
{
  run_command("$LOCKRUN lock setsid -w sh -c 'echo started $$; kill -STOP $$; echo behind; cat <&8'");
  ASSERT_TRUE(eventually([&] { return state_of(command) == 'T'; }));
  EXPECT_NE(state_of(lockrun), 'T');
  ASSERT_EQ(::kill(lockrun, SIGCONT), 0);
  ASSERT_TRUE(bash.await("behind"));
  leash.close_write();
  expect_status(0);
}

TEST_F(AtATerminal, InTheBackgroundACommandMayBeStoppedAndContinuedAlone)
{
  run_command("$LOCKRUN lock sh -c 'echo started $$; kill -STOP $$; echo behind; cat <&8' &");
  ASSERT_TRUE(eventually([&] { return state_of(command) == 'T' && has_heard_of_children(lockrun); }));
  ASSERT_EQ(::kill(command, SIGCONT), 0);
  ASSERT_TRUE(bash.await("behind"));
  ASSERT_EQ(::kill(command, SIGKILL), 0);
  EXPECT_TRUE(eventually([&] { return is_free(lock); }));
  EXPECT_THAT(bash.screen(), Not(HasSubstr("Stopped")));
}

TEST_F(AtATerminal, AStoppedCommandCanBeEnded)
{
  run_command("$LOCKRUN lock " + k_stay);
  bash.type(k_ctrl_z);
  ASSERT_TRUE(bash.await("Stopped"));
  enter("kill %1"); // TERM and CONT for the whole group
  EXPECT_TRUE(eventually([&] { return is_free(lock); }));
}

TEST_F(AtATerminal, AStoppedCommandIsEndedWhenItIsContinuedTooLate)
{
  run_command("$LOCKRUN --max-hold 3s lock " + k_stay);
  bash.type(k_ctrl_z);
  EXPECT_EQ(run_lockrun({"--max-hold", "3s", dir / "clock", "sleep", "1h"}).status, exited(124)); // now it is too late
  enter("fg");
  EXPECT_TRUE(bash.await("the limit"));
  EXPECT_TRUE(eventually([&] { return is_free(lock); }));
}

TEST_F(AtATerminal, CtrlZWhileWaiting)
{
  HoldingProcess holder(lock);
  enter("$LOCKRUN lock touch ran");
  ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 1; }));
  bash.type(k_ctrl_z);
  ASSERT_TRUE(bash.await("Stopped"));
  ASSERT_TRUE(bash.await("bash> "));
  enter("fg");
  holder.release();
  expect_status(0);
  EXPECT_TRUE(std::filesystem::exists(dir / "ran"));
}

// --- At every moment of a short call

constexpr int k_presses = 300;

// Runs lockrun so often as the foreground job of a terminal, and presses a key ever later after its start, up to 3 ms.
// Continues a job that has stopped. Gives notice of each one that ended as `is_right` says, and ends with the first
// that did not; hangs if one does not end.
void press_at_every_moment(char key, const Words& arguments, int leash,
  const std::function<bool(int wait_status)>& is_right, const Notice& ended_right)
{
  using std::chrono::steady_clock;
  int terminal = -1;
  int screen = -1;
  if (::openpty(&screen, &terminal, nullptr, nullptr, nullptr) != 0 || ::setsid() < 0 ||
      ::ioctl(terminal, TIOCSCTTY, 0) != 0) {
    return;
  }
  hostile::ignore(SIGTTOU)();
  const auto words = lockrun_argv(arguments);
  std::vector<char*> argv;
  for (const std::string& word : words) { argv.push_back(const_cast<char*>(word.c_str())); }
  argv.push_back(nullptr);
  for (int i = 0; i < k_presses; ++i) {
    const pid_t job = ::fork();
    if (job == 0) {
      ::setpgid(0, 0);
      ::tcsetpgrp(terminal, ::getpid());
      (void)::signal(SIGTTOU, SIG_DFL);
      ::dup2(leash, 8);
      for (const int fd : {0, 1, 2}) { ::dup2(terminal, fd); }
      ::execv(argv[0], argv.data());
      ::_exit(126);
    }
    ::setpgid(job, job);
    ::tcsetpgrp(terminal, job);
    const auto moment = steady_clock::now() + std::chrono::microseconds(10) * i;
    while (steady_clock::now() < moment) {}
    if (::write(screen, &key, 1) != 1) { return; }
    int status = 0;
    while (::waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status)) { ::kill(-job, SIGCONT); }
    if (!is_right(status)) { return; }
    ended_right.give();
    ::tcflush(terminal, TCIFLUSH);
    ::tcflush(screen, TCIFLUSH);
  }
}

class EarlyKey : public ::testing::Test {
protected:
  // In a process of its own, which is killed if it hangs.
  bool press(char key, const Words& command, const std::function<bool(int)>& is_right)
  {
    Words arguments{lock};
    arguments.insert(arguments.end(), command.begin(), command.end());
    const Notice ended_right;
    const Forked user([&] {
      press_at_every_moment(key, arguments, leash.read_end, is_right, ended_right);
      return 0;
    });
    for (int i = 0; i < k_presses; ++i) {
      if (!ended_right.await()) { return false; }
    }
    return true;
  }
  TempDir dir;
  std::string lock = dir / "lock";
  Pipe leash;
};

TEST_F(EarlyKey, CtrlZStopsTheCallAndItGoesOn)
{
  EXPECT_TRUE(press('\x1a', {"true"}, [](int status) { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }));
  EXPECT_TRUE(is_free(lock));
}

TEST_F(EarlyKey, CtrlCEndsTheCall)
{
  EXPECT_TRUE(press('\x03', {"sh", "-c", "exec cat <&8"},
    [](int status) { return WIFSIGNALED(status) ? WTERMSIG(status) == SIGINT : WEXITSTATUS(status) == 128 + SIGINT; }));
  EXPECT_TRUE(eventually([&] { return is_free(lock); }));
}

// --- In tmux, as people have it

class InTmux : public ::testing::Test {
protected:
  void SetUp() override
  {
    if (run_program({"sh", "-c", "command -v tmux"}).status != exited(0)) { GTEST_SKIP() << "tmux is not installed"; }
    Start start;
    start.environment = {{"TMUX", std::nullopt}, {"PS1", "bash> "}, {"TERM", "screen"}, {"LC_ALL", "C.UTF-8"},
      {"LOCKRUN", lockrun_binary()}};
    start.directory = dir.path();
    server.emplace(Words{"tmux", "-S", socket, "-f", "/dev/null", "-D"}, start); // no daemon: it ends with the test
    ASSERT_TRUE(eventually([&] {
      return tmux({"new-session", "-d", "-c", dir.path(), "-x", "150", "-y", "24", "bash", "--norc", "--noprofile"})
               .status == exited(0);
    }));
    ASSERT_TRUE(shows("bash>"));
  }

  Finished tmux(Words words)
  {
    words.insert(words.begin(), {"tmux", "-N", "-S", socket}); // never a server of its own
    return run_program(words);
  }
  // What is typed shows too: ask for something else.
  bool shows(const std::string& text)
  {
    return eventually([&] { return tmux({"capture-pane", "-p"}).out.find(text) != std::string::npos; });
  }
  void press(const std::string& key) { EXPECT_EQ(tmux({"send-keys", key}).status, exited(0)); }
  void enter(const std::string& line)
  {
    EXPECT_EQ(tmux({"send-keys", "-l", line}).status, exited(0));
    press("Enter");
  }

  TempDir dir;
  std::string lock = dir / "lock";
  std::string socket = dir / "tmux";
  std::optional<Process> server;
};

TEST_F(InTmux, StopContinueAndInterrupt)
{
  enter("$LOCKRUN lock sh -c 'echo \"[\" started \"]\"; read line'");
  ASSERT_TRUE(shows("[ started ]"));
  const pid_t lockrun = kernel_holders(lock).at(0).pid;
  press("C-z");
  ASSERT_TRUE(shows("Stopped"));
  EXPECT_EQ(state_of(lockrun), 'T');
  EXPECT_FALSE(is_free(lock));
  enter("fg");
  ASSERT_TRUE(eventually([&] { return state_of(lockrun) == 'S'; }));
  EXPECT_FALSE(is_free(lock));
  press("C-c");
  EXPECT_TRUE(eventually([&] { return is_free(lock); }));
  enter("echo '[' $? ']'");
  EXPECT_TRUE(shows("[ 130 ]"));
}

} // namespace
} // namespace lockrun::testing
