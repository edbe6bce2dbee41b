// What lockrun does with signals that somebody sends to it. Those of a terminal: terminal_test.cpp.

#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"
#include "support/traced.hpp"

#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;

class Signals : public ::testing::Test {
protected:
  Signals()
  {
    start.out = k_pipe;
    start.descriptors = {{8, leash.read_end}};
  }
  Process run(const Words& options, const Words& command)
  {
    Words arguments = options;
    arguments.push_back(lock);
    arguments.insert(arguments.end(), command.begin(), command.end());
    return Process(lockrun_argv(arguments), start);
  }
  // A command that prints the signals that it gets.
  Process run_printer(const Words& options = {}, const Words& in_front = {})
  {
    Words command = in_front;
    command.insert(command.end(), {program("signals"), "8"});
    Process lockrun = run(options, command);
    const std::string ready = lockrun.out_line().value_or("");
    EXPECT_EQ(ready.substr(0, 6), "ready ");
    return lockrun;
  }
  // lockrun has passed on all that it got, and the command has printed all that it got, when this one arrives.
  void expect_nothing_but(const std::optional<std::string>& expected, Process& lockrun, int marker = SIGUSR2)
  {
    lockrun.signal(marker);
    auto line = lockrun.out_line();
    if (expected) {
      EXPECT_EQ(line, *expected);
      line = lockrun.out_line();
    }
    EXPECT_EQ(line, std::string(::sigabbrev_np(marker)));
  }
  void expect_clean_end(Process& lockrun)
  {
    EXPECT_FALSE(is_free(lock));
    leash.close_write();
    EXPECT_EQ(lockrun.wait().status, exited(0));
    EXPECT_TRUE(is_free(lock));
  }

  TempDir dir;
  std::string lock = dir / "lock";
  Pipe leash;
  Start start;
};

// --- Passed on

struct PassedRow {
  const char* name;
  int signal;
  bool in_our_group; // is it passed on to a command in lockrun's own process group?
};
constexpr PassedRow k_passed[] = {
  {"Term", SIGTERM, true},
  {"Int", SIGINT, true},
  {"Hup", SIGHUP, true},
  {"Quit", SIGQUIT, true},
  {"Usr1", SIGUSR1, true},
  {"Usr2", SIGUSR2, true},
  {"Cont", SIGCONT, false},
  {"Winch", SIGWINCH, true},
};
class PassedOn : public Signals, public ::testing::WithParamInterface<PassedRow> {
protected:
  void check(const Words& options, const Words& in_front, bool arrives)
  {
    Process lockrun = run_printer(options, in_front);
    const int signal = GetParam().signal;
    const int marker = signal == SIGUSR2 ? SIGUSR1 : SIGUSR2;
    const std::string name = ::sigabbrev_np(signal);
    lockrun.signal(signal);
    if (arrives) { EXPECT_EQ(lockrun.out_line(), name); }
    expect_nothing_but({}, lockrun, marker);
    if (arrives) { // and again: nothing is used up
      lockrun.signal(signal);
      EXPECT_EQ(lockrun.out_line(), name);
    }
    expect_clean_end(lockrun);
  }
};
TEST_P(PassedOn, ExactlyOnce)
{
  check({}, {}, GetParam().in_our_group);
}
TEST_P(PassedOn, ExactlyOnceToACommandInAGroupOfItsOwn)
{
  check({}, {"setsid", "-w"}, true);
}
TEST_P(PassedOn, ExactlyOnceWhenTheTreeIsWaitedForAndLimited)
{
  check({"--hold", "tree", "--max-hold", "1h"}, {"setsid", "-w"}, true);
}
INSTANTIATE_TEST_SUITE_P(
  Signal, PassedOn, ::testing::ValuesIn(k_passed), [](const auto& row) { return std::string(row.param.name); });

TEST_F(Signals, FromTheCommandItselfAreNotGivenBack)
{
  Process lockrun = run({},
    {"bash", "-c",
      "trap 'echo USR1' USR1; trap 'echo USR2' USR2; cat <&8 & kill -USR1 $PPID; echo sent; until wait; do :; done"});
  EXPECT_EQ(lockrun.out_line(), "sent");
  expect_nothing_but({}, lockrun);
  leash.close_write();
  (void)lockrun.wait();
}

TEST_F(Signals, FromAnotherOfTheTreeArePassedOn)
{
  Process lockrun = run({}, {"bash", "-c",
                              "trap 'echo USR1' USR1; trap 'echo USR2' USR2; cat <&8 & sh -c 'kill -USR1 $1' sh $PPID; "
                              "until wait; do :; done"});
  EXPECT_EQ(lockrun.out_line(), "USR1");
  expect_nothing_but({}, lockrun);
  leash.close_write();
  (void)lockrun.wait();
}

TEST_F(Signals, OfTheSameKindTwiceDoNoHarm)
{
  Process lockrun = run_printer();
  for (int time = 0; time < 5; ++time) {
    lockrun.signal(SIGINT);
    EXPECT_EQ(lockrun.out_line(), "INT");
  }
  EXPECT_FALSE(is_free(lock));
  expect_clean_end(lockrun);
}

// KillMode=mixed of systemd: TERM for us alone, KILL for all that is left.
TEST_F(Signals, OfAServiceManagerArriveOnceAndThenEndAll)
{
  start.before_exec = {hostile::new_session()};
  Process lockrun = run_printer();
  lockrun.signal(SIGTERM);
  EXPECT_EQ(lockrun.out_line(), "TERM");
  expect_nothing_but({}, lockrun);
  EXPECT_FALSE(is_free(lock));
  ASSERT_EQ(::kill(-lockrun.pid(), SIGKILL), 0);
  EXPECT_EQ(lockrun.wait().status, killed(SIGKILL));
  EXPECT_TRUE(eventually([&] { return is_free(lock); }));
}

// nohup and its like: the command ignores it too, and would get it all the same while it blocks it.
TEST_F(Signals, ThatWeInheritedIgnoredAreNotPassedOn)
{
  start.before_exec = {hostile::ignore(SIGHUP), hostile::ignore(SIGINT)};
  Process lockrun = run_printer();
  lockrun.signal(SIGHUP);
  lockrun.signal(SIGINT);
  expect_nothing_but({}, lockrun);
  expect_clean_end(lockrun);
}

TEST_F(Signals, ThatWeInheritedBlockedArePassedOnAllTheSame)
{
  start.before_exec = {hostile::block(SIGTERM), hostile::block(SIGHUP)};
  Process lockrun = run_printer();
  lockrun.signal(SIGTERM);
  EXPECT_EQ(lockrun.out_line(), "TERM");
  expect_clean_end(lockrun);
}

TEST_F(Signals, GoToTheDaemonsOnceTheCommandHasEnded)
{
  Process lockrun =
    run({"--hold", "tree"}, {"sh", "-c", "echo $$; exec " + program("detach") + " " + program("signals") + " 8"});
  const std::string command = lockrun.out_line().value();
  EXPECT_EQ(lockrun.out_line().value().substr(0, 6), "ready ");
  ASSERT_TRUE(eventually([&] { return !std::filesystem::exists("/proc/" + command); }));
  lockrun.signal(SIGTERM);
  EXPECT_EQ(lockrun.out_line(), "TERM");
  expect_clean_end(lockrun);
}

// --- Statuses

struct EndRow {
  const char* name;
  const char* script;
  int status;
};
constexpr EndRow k_ends[] = {
  {"Success", "exit 0", 0},
  {"Failure", "exit 1", 1},
  {"LikeBusy", "exit 75", 75},
  {"Highest", "exit 255", 255},
  {"Term", "kill -TERM $$", 128 + SIGTERM},
  {"Int", "kill -INT $$", 128 + SIGINT},
  {"Kill", "kill -KILL $$", 128 + SIGKILL},
  {"Segv", "ulimit -c 0; kill -SEGV $$", 128 + SIGSEGV},
  {"RealTime", "kill -64 $$", 128 + 64},
};
class Statuses : public ::testing::TestWithParam<EndRow> {};
TEST_P(Statuses, AreTheCommands)
{
  const TempDir dir;
  for (const Words& options : {Words{}, {"--hold", "tree"}, {"-o"}, {"--max-hold", "1h"}}) {
    Words arguments = options;
    arguments.insert(arguments.end(), {dir / "lock", "sh", "-c", GetParam().script});
    EXPECT_EQ(run_lockrun(arguments).status, exited(GetParam().status));
  }
}
TEST_P(Statuses, AreNotLostWhenSigchldIsIgnored)
{
  const TempDir dir;
  Start start;
  start.before_exec = {hostile::ignore(SIGCHLD), hostile::block(SIGCHLD)};
  EXPECT_EQ(run_lockrun({dir / "lock", "sh", "-c", GetParam().script}, start).status, exited(GetParam().status));
}
INSTANTIATE_TEST_SUITE_P(
  Table, Statuses, ::testing::ValuesIn(k_ends), [](const auto& row) { return std::string(row.param.name); });

TEST_F(Signals, ThatEndTheCommandGiveItsStatus)
{
  Process lockrun = run({}, {"sh", "-c", "echo; exec cat <&8"});
  ASSERT_TRUE(lockrun.out_line());
  lockrun.signal(SIGTERM);
  EXPECT_EQ(lockrun.wait().status, exited(128 + SIGTERM));
  EXPECT_TRUE(is_free(lock));
}

// --- What the command inherits

struct InheritedRow {
  const char* name;
  std::vector<std::function<void()>> setup;
};
const InheritedRow k_inherited[] = {
  {"Nothing", {}},
  {"HupIgnored", {hostile::ignore(SIGHUP)}},
  {"PipeIgnored", {hostile::ignore(SIGPIPE)}},
  {"ChildIgnored", {hostile::ignore(SIGCHLD)}},
  {"IntAndQuitIgnored", {hostile::ignore(SIGINT), hostile::ignore(SIGQUIT)}},
  {"AlarmIgnored", {hostile::ignore(SIGALRM)}},
  {"UrgentIgnored", {hostile::ignore(SIGURG)}},
  {"RealTimeIgnored", {hostile::ignore(SIGRTMIN), hostile::ignore(SIGRTMIN + 1)}},
  {"AlarmBlocked", {hostile::block(SIGALRM)}},
  {"TermBlocked", {hostile::block(SIGTERM)}},
  {"ChildBlocked", {hostile::block(SIGCHLD)}},
  {"PipeBlocked", {hostile::block(SIGPIPE)}},
  {"UrgentBlocked", {hostile::block(SIGURG)}},
  {"RealTimeBlocked", {hostile::block(SIGRTMIN), hostile::block(SIGRTMIN + 1)}},
  {"AllIgnored", {[] {
     for (int signal = 1; signal < NSIG; ++signal) { (void)::signal(signal, SIG_IGN); }
   }}},
  {"AllBlocked", {[] {
     for (int signal = 1; signal < NSIG; ++signal) { hostile::block(signal)(); }
   }}},
};
class Inherited : public ::testing::TestWithParam<InheritedRow> {
protected:
  static Words show_signals() { return {"grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"}; }
  Start start()
  {
    Start result;
    result.before_exec = GetParam().setup;
    return result;
  }
  TempDir dir;
};
TEST_P(Inherited, ReachesTheCommandUnchanged)
{
  const Finished direct = run_program(show_signals(), start());
  ASSERT_EQ(direct.status, exited(0));
  for (const Words& options : {Words{}, {"-F"}, {"-o"}, {"--hold", "tree", "--max-hold", "1h"}, {"-w", "1h"}, {"-v"}}) {
    Words arguments = options;
    arguments.push_back(dir / "lock");
    for (const std::string& word : show_signals()) { arguments.push_back(word); }
    const Finished ended = run_lockrun(arguments, start());
    EXPECT_EQ(ended.status, exited(0));
    EXPECT_EQ(ended.out, direct.out);
  }
}
TEST_P(Inherited, ReachesTheCommandUnchangedAfterAWait)
{
  const Finished direct = run_program(show_signals(), start());
  HoldingProcess held(dir / "lock");
  Words arguments{"-w", "1h", dir / "lock"};
  for (const std::string& word : show_signals()) { arguments.push_back(word); }
  Process lockrun(lockrun_argv(arguments), start());
  ASSERT_TRUE(eventually([&] { return kernel_waiters(dir / "lock") == 1; }));
  held.release();
  EXPECT_EQ(lockrun.wait().out, direct.out);
}
INSTANTIATE_TEST_SUITE_P(
  Table, Inherited, ::testing::ValuesIn(k_inherited), [](const auto& row) { return std::string(row.param.name); });

TEST_F(Signals, NohupIsHeeded)
{
  Process nohup({"nohup", lockrun_binary(), lock, "sh", "-c", "grep ^SigIgn /proc/self/status; exec cat <&8"}, start);
  const std::string ignored = nohup.out_line().value();
  EXPECT_EQ(ignored.back(), '1') << ignored; // bit 0 is SIGHUP
  nohup.signal(SIGHUP);
  expect_clean_end(nohup);
}

// --- While waiting

class Waiting : public Signals, public ::testing::WithParamInterface<int> {
protected:
  Process wait_for_lock(const Words& options = {})
  {
    Process lockrun = run(options, {"touch", dir / "ran"});
    EXPECT_TRUE(eventually([&] { return kernel_waiters(lock) == 1 && is_asleep(lockrun.pid()); }));
    return lockrun;
  }
};
class WaitingEnds : public Waiting {};
TEST_P(WaitingEnds, AtOnceByTheSignalAndNothingIsRun)
{
  start.before_exec = {hostile::limit(RLIMIT_CORE, 0)};
  HoldingProcess held(lock);
  for (const Words& options : {Words{}, {"-w", "1h"}, {"-F"}, {"-o"}, {"--api", "both"}}) {
    Process lockrun = wait_for_lock(options);
    lockrun.signal(GetParam());
    EXPECT_EQ(lockrun.wait().status, killed(GetParam()));
    EXPECT_FALSE(std::filesystem::exists(dir / "ran"));
  }
}
TEST_P(WaitingEnds, ForADescriptorToo)
{
  start.before_exec = {hostile::limit(RLIMIT_CORE, 0)};
  HoldingProcess held(lock);
  start.in = to_file(lock);
  Process lockrun(lockrun_argv({"0"}), start);
  ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 1; }));
  lockrun.signal(GetParam());
  EXPECT_EQ(lockrun.wait().status, killed(GetParam()));
}
TEST_P(WaitingEnds, NotWhenItIsIgnored)
{
  start.before_exec = {hostile::ignore(GetParam())};
  HoldingProcess held(lock);
  Process lockrun = wait_for_lock({"-w", "1h"});
  lockrun.signal(GetParam());
  held.release();
  EXPECT_EQ(lockrun.wait().status, exited(0));
  EXPECT_TRUE(std::filesystem::exists(dir / "ran"));
}
TEST_P(WaitingEnds, NotWhenItIsBlockedAndThenTheCommandGetsIt)
{
  start.before_exec = {hostile::block(GetParam())};
  HoldingProcess held(lock);
  Process lockrun = run({}, {program("signals"), "8"});
  ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 1; }));
  lockrun.signal(GetParam());
  held.release();
  ASSERT_TRUE(lockrun.out_line()); // ready
  EXPECT_EQ(lockrun.out_line(), std::string(::sigabbrev_np(GetParam())));
  expect_clean_end(lockrun);
}
const auto name_of_signal = [](const auto& row) { return std::string(::sigabbrev_np(row.param)); };
INSTANTIATE_TEST_SUITE_P(
  Signal, WaitingEnds, ::testing::Values(SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2), name_of_signal);

class WaitingGoesOn : public Waiting {};
TEST_P(WaitingGoesOn, AndKeepsItsPlace)
{
  HoldingProcess held(lock);
  Process lockrun = wait_for_lock({"-w", "1h"});
  lockrun.signal(GetParam());
  // SIGURG is what its own threads wake it with: once it is taken, the wait goes on.
  ASSERT_TRUE(eventually([&] {
    const std::string status = read_file("/proc/" + std::to_string(lockrun.pid()) + "/status");
    return status.find("ShdPnd:\t0000000000000000") != std::string::npos && kernel_waiters(lock) == 1;
  }));
  Process second = run({}, {"sh", "-c", "test -e " + (dir / "ran").string()});
  ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 2; }));
  held.release();
  EXPECT_EQ(lockrun.wait().status, exited(0));
  EXPECT_EQ(second.wait().status, exited(0));
}
INSTANTIATE_TEST_SUITE_P(Signal, WaitingGoesOn, ::testing::Values(SIGCONT, SIGWINCH, SIGCHLD, SIGURG), name_of_signal);

// --- Not for us to send

TEST_F(Signals, WhatCannotBePassedOnIsToldOnce)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  const auto as_root = dir / "as_root";
  std::filesystem::copy_file(program("as_root"), as_root);
  ASSERT_EQ(::chmod(as_root.c_str(), 04755), 0);
  ASSERT_EQ(::chmod(dir.path().c_str(), 0777), 0);
  start.before_exec = {hostile::become_user(k_nobody)};
  start.err = k_pipe;
  Process lockrun = run({}, {as_root, "sh", "-c", "echo $$; exec cat <&8"});
  const std::string command = lockrun.out_line().value();
  struct ::stat status {};
  ASSERT_EQ(::stat(("/proc/" + command).c_str(), &status), 0);
  if (status.st_uid != 0) { GTEST_SKIP() << "this file system has no setuid programs"; }
  for (const int signal : {SIGTERM, SIGINT}) { lockrun.signal(signal); }
  const std::string line = lockrun.err_line().value();
  EXPECT_THAT(line, HasSubstr("lockrun: cannot pass SIG"));
  EXPECT_THAT(line, HasSubstr(" on to PID " + command + " ("));
  EXPECT_THAT(line, HasSubstr("): Operation not permitted (EPERM)"));
  expect_clean_end(lockrun);
  EXPECT_EQ(lockrun.err_line(), std::nullopt);
}

// --- At every moment

class EveryMoment : public Signals {
protected:
  EveryMoment() { start.before_exec = {Traced::on_start()}; }

  // Stops lockrun at its system call number `step`, and lets `deed` happen there. False when it supervises the command
  // before. Counted from its first own call: the program loader's are left out.
  static bool at_step(const Process& lockrun, int step, const std::function<void()>& deed)
  {
    Traced traced(lockrun.pid());
    while (traced.call() != SYS_poll) {
      if (!traced.next()) { return false; }
    }
    bool has_command = false;
    for (int i = 0; i < step; ++i) {
      if (!traced.next()) { return false; }
      has_command = has_command || traced.call() == SYS_clone;
      if (has_command && traced.call() == SYS_rt_sigtimedwait) { return false; }
    }
    deed();
    return true;
  }
  bool all_free() const { return is_free(lock) && is_free(lock, Mode::exclusive, LockKind::ofd); }
};

TEST_F(EveryMoment, ASignalEndsLockrunOrReachesTheCommand)
{
  int ended = 0;
  int passed = 0;
  for (int step = 0;; ++step) {
    Process lockrun = run({}, {"sh", "-c", "echo ran; exec cat <&8"});
    if (!at_step(lockrun, step, [&] { lockrun.signal(SIGTERM); })) { break; }
    const auto status = lockrun.wait().status;
    if (status == killed(SIGTERM)) {
      EXPECT_EQ(lockrun.out_line(), std::nullopt) << "at " << step;
      ++ended;
    } else {
      EXPECT_EQ(status, exited(128 + SIGTERM)) << "at " << step;
      ++passed;
    }
    EXPECT_TRUE(eventually([&] { return is_free(lock); }));
  }
  EXPECT_GT(ended, 10);
  EXPECT_GT(passed, 2);
}

TEST_F(EveryMoment, ASignalThatIsBlockedReachesTheCommandOnce)
{
  start.before_exec.push_back(hostile::block(SIGTERM));
  int steps = 0;
  for (int step = 0;; ++step) {
    Pipe own_leash;
    start.descriptors = {{8, own_leash.read_end}};
    Process lockrun = run({}, {program("signals"), "8"});
    if (!at_step(lockrun, step, [&] { lockrun.signal(SIGTERM); })) { break; }
    ASSERT_TRUE(lockrun.out_line()) << "at " << step;
    EXPECT_EQ(lockrun.out_line(), "TERM") << "at " << step;
    expect_nothing_but({}, lockrun);
    own_leash.close_write();
    EXPECT_EQ(lockrun.wait().status, exited(0));
    ++steps;
  }
  EXPECT_GT(steps, 10);
}

// From the first attempt to the one that blocks. Looking for nested calls reads much in between, and is left out.
TEST_F(EveryMoment, ASignalEndsAWait)
{
  HoldingProcess held(lock);
  int steps = 0;
  for (int step = 0;; ++step) {
    Process lockrun = run({"--nested", "wait"}, {"echo", "ran"});
    Traced traced(lockrun.pid());
    int locks = 0;
    for (int i = 0; locks < 1 || (locks < 2 && i <= step);) { // the number of calls varies with what the threads do
      ASSERT_TRUE(traced.next());
      if (traced.call() == SYS_flock && traced.at_entry()) { ++locks; }
      if (locks > 0) { ++i; }
    }
    lockrun.signal(SIGTERM);
    traced.let_go();
    EXPECT_EQ(lockrun.wait().status, killed(SIGTERM)) << "at " << step;
    EXPECT_EQ(lockrun.out_line(), std::nullopt);
    ++steps;
    if (locks == 2) { break; }
  }
  EXPECT_GT(steps, 10);
}

// No run without the lock, no lock without the run.
TEST_F(EveryMoment, SigkillLeavesTheLockWithTheCommandOrWithNobody)
{
  int with_command = 0;
  int with_nobody = 0;
  for (const Words& options : {Words{}, {"--unlink"}, {"--hold", "tree"}, {"--api", "both"}}) {
    for (int step = 0;; ++step) {
      ASSERT_TRUE(eventually([&] { return all_free(); }));
      Pipe own_leash;
      start.descriptors = {{8, own_leash.read_end}};
      Process lockrun = run(options, {"sh", "-c", "echo ran; exec cat <&8"});
      if (!at_step(lockrun, step, [&] { lockrun.signal(SIGKILL); })) { break; }
      EXPECT_EQ(lockrun.wait().status, killed(SIGKILL));
      const auto said = lockrun.out_line(); // nothing: there is no process any more that could hold it
      EXPECT_TRUE(said ? !all_free() : eventually([&] { return all_free(); })) << "at " << step;
      EXPECT_EQ(said.value_or("ran"), "ran");
      ++(said ? with_command : with_nobody);
    }
  }
  EXPECT_GT(with_command, 0);
  EXPECT_GT(with_nobody, 20);
}

} // namespace
} // namespace lockrun::testing
