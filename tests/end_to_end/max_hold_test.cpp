// Locks that are held too long. The durations here are what is tested: nothing waits for them otherwise, and nothing is
// said about how late they may be. A limit can pass before the command has done anything: what must not be hit too
// early inherits the signal ignored or blocked, or has much time.

#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;

bool lives(const std::string& pid)
{
  return testing::lives(std::stoi(pid));
}

// Does not pass before a command has done what it does first, even on a busy machine.
constexpr const char* k_ample = "5s";
constexpr const char* k_longer = "5100ms";

class MaxHold : public ::testing::Test {
protected:
  MaxHold()
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
  Process run_script(const Words& options, const std::string& script) { return run(options, {"sh", "-c", script}); }

  // Nobody has standard output open any more: neither lockrun nor anything that it started.
  void expect_all_gone(Process& lockrun)
  {
    while (lockrun.out_line()) {}
    EXPECT_TRUE(is_free(lock));
  }
  // After this, limits that are shorter and began before have passed.
  void let_pass(const std::string& duration)
  {
    const auto ended =
      run_lockrun({"--max-hold", duration, dir / "clock", "sh", "-c", "exec cat <&8"}, without_output());
    ASSERT_EQ(ended.status, exited(124));
  }
  // Starts lockrun and stops it before the limit has passed; a busy machine can be too slow for that once or twice.
  Process run_and_stop(const Words& options, const std::string& script, std::string& command)
  {
    for (;;) {
      Process lockrun = run_script(options, script);
      const auto line = lockrun.out_line();
      if (!line) { continue; }
      command = *line;
      lockrun.signal(SIGSTOP);
      EXPECT_TRUE(eventually([&] { return has_stopped(lockrun.pid()); }));
      if (lockrun.err_so_far().empty() && lives(command)) { return lockrun; } // it says so before it acts
      lockrun.signal(SIGCONT);                                                // lest the command keeps the lock
      (void)lockrun.wait();
    }
  }
  Start without_output() const
  {
    Start result;
    result.descriptors = start.descriptors;
    return result;
  }
  std::string in_background(const std::string& program_name) const
  {
    return program("detach") + " " + program(program_name) + " 8";
  }

  TempDir dir;
  std::string lock = dir / "lock";
  Pipe leash;
  Start start;
};

const std::string k_stay = "echo $$; exec cat <&8";

TEST_F(MaxHold, EndsTheCommandWithTermAndSaysSo)
{
  Process lockrun = run_script({"--max-hold", "50ms"}, k_stay);
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(124));
  EXPECT_EQ(ended.err, "lockrun: '" + lock +
                         "' has been held for 50ms, the limit: ending the command and all that it started with "
                         "SIGTERM\n");
  expect_all_gone(lockrun);
}

TEST_F(MaxHold, LeavesACommandAloneThatEndsInTime)
{
  for (const Words& options : {Words{"--max-hold", "1h"}, {"--max-hold", "1h", "--hold", "tree"}}) {
    const Finished ended = run_script(options, "exit 3").wait();
    EXPECT_EQ(ended.status, exited(3));
    EXPECT_EQ(ended.err, "");
  }
}

TEST_F(MaxHold, SendsTheSignalThatItIsToldAndContinuesWhatIsStopped)
{
  start.before_exec = {hostile::block(SIGINT), hostile::block(SIGCONT)};
  Process lockrun = run({"--max-hold", "50ms", "--signal", "INT", "-k", "1h"}, {program("signals"), "8"});
  lockrun.out_line(); // ready
  EXPECT_EQ(lockrun.out_line(), "INT");
  EXPECT_EQ(lockrun.out_line(), "CONT");
  EXPECT_FALSE(is_free(lock));
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(124));
  EXPECT_TRUE(is_free(lock));
}

TEST_F(MaxHold, NamesASignalWithoutANameByItsNumber)
{
  Process lockrun = run_script({"--max-hold", "50ms", "--signal", "64"}, k_stay);
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(124));
  EXPECT_THAT(ended.err, HasSubstr(" with signal 64\n"));
  expect_all_gone(lockrun);
}

// Nobody else can be seen then.
TEST_F(MaxHold, EndsTheCommandWhenDescriptorsAreTooFewToLookAtTheTree)
{
  if (is_sanitized(lockrun_binary())) { GTEST_SKIP() << "the sanitizers need descriptors of their own"; }
  start.before_exec = {hostile::limit(RLIMIT_NOFILE, 5)};
  Process lockrun = run({"--max-hold", "50ms", "-k", "1h"}, {"sleep", "1h"});
  EXPECT_EQ(lockrun.wait().status, exited(124));
  expect_all_gone(lockrun);
  start.before_exec.push_back(hostile::ignore(SIGTERM));
  Process again = run({"--max-hold", "50ms", "-k", "50ms"}, {"sleep", "1h"});
  EXPECT_EQ(again.wait().status, exited(137));
  expect_all_gone(again);
}

// The numbers of another pid namespace are strangers here.
TEST_F(MaxHold, IsRefusedWhereProcDoesNotShowUs)
{
  const auto run_inside = [&](Words options) {
    Words words{"unshare", "--pid", "--fork"};
    options.insert(options.end(), {lock, "touch", dir / "ran"});
    for (const std::string& word : lockrun_argv(options)) { words.push_back(word); }
    return run_program(words);
  };
  if (run_program({"unshare", "--pid", "--fork", "true"}).status != exited(0)) { GTEST_SKIP() << "may not unshare"; }
  for (const Words& options : {Words{"--max-hold", "1h"}, {"--hold", "tree"}}) {
    const Finished refused = run_inside(options);
    EXPECT_EQ(refused.status, exited(69));
    EXPECT_THAT(refused.err, HasSubstr("cannot start 'touch': /proc: Operation not supported (EOPNOTSUPP)\n"));
    EXPECT_THAT(refused.err, HasSubstr("lockrun: hint: what a command starts"));
    EXPECT_FALSE(std::filesystem::exists(dir / "ran"));
  }
  const Finished ran = run_inside({"-v"});
  EXPECT_EQ(ran.status, exited(0));
  EXPECT_THAT(ran.err, ::testing::Not(HasSubstr("left running")));
  EXPECT_TRUE(std::filesystem::exists(dir / "ran"));
}

TEST_F(MaxHold, KillsWhatIgnoresTheSignal)
{
  start.before_exec = {hostile::ignore(SIGTERM)};
  Process lockrun = run_script({"--max-hold", "50ms", "-k", "50ms"}, k_stay);
  EXPECT_EQ(lockrun.wait().status, exited(137));
  expect_all_gone(lockrun);
}

TEST_F(MaxHold, KillsAtOnceWhenToldTo)
{
  Process lockrun = run_script({"--max-hold", "50ms", "--signal", "KILL"}, k_stay);
  EXPECT_EQ(lockrun.wait().status, exited(137));
  expect_all_gone(lockrun);
  start.before_exec = {hostile::ignore(SIGTERM)};
  Process again = run_script({"--max-hold", "50ms", "-k", "0"}, k_stay);
  EXPECT_EQ(again.wait().status, exited(137));
  expect_all_gone(again);
}

TEST_F(MaxHold, KeepsTheLockUntilTheTreeIsEmpty)
{
  Process lockrun =
    run_script({"--max-hold", k_ample, "-k", "1h"}, "echo $$; " + in_background("signals") + "; exec cat <&8");
  const std::string command = lockrun.out_line().value();
  ASSERT_THAT(lockrun.out_line().value(), HasSubstr("ready"));
  EXPECT_EQ(lockrun.out_line(), "TERM"); // and the daemon stays
  ASSERT_TRUE(eventually([&] { return !lives(command); }));
  EXPECT_FALSE(is_free(lock));
  EXPECT_TRUE(lives(std::to_string(lockrun.pid())));
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(124));
  EXPECT_TRUE(is_free(lock));
}

TEST_F(MaxHold, EndsDaemonsInSessionsOfTheirOwn)
{
  const std::string daemon = program("detach") + " cat <&8; ";
  Process lockrun = run_script({"--max-hold", "50ms"}, daemon + daemon + daemon + k_stay);
  EXPECT_EQ(lockrun.wait().status, exited(124));
  expect_all_gone(lockrun);
}

TEST_F(MaxHold, KillsDaemonsThatIgnoreTheSignal)
{
  start.before_exec = {hostile::ignore(SIGTERM)};
  const std::string daemon = in_background("signals") + "; ";
  Process lockrun = run_script({"--max-hold", "50ms", "-k", "50ms"}, daemon + daemon + k_stay);
  EXPECT_EQ(lockrun.wait().status, exited(137));
  expect_all_gone(lockrun);
}

TEST_F(MaxHold, EndsWhatHasStopped)
{
  start.before_exec = {hostile::new_session()}; // at a terminal lockrun would stop, too
  Process lockrun = run_script({"--max-hold", "50ms", "-k", "1h"}, "kill -STOP $$; exec cat <&8");
  EXPECT_EQ(lockrun.wait().status, exited(124));
  expect_all_gone(lockrun);
  start.before_exec.push_back(hostile::ignore(SIGTERM));
  Process again = run_script({"--max-hold", "50ms", "-k", "50ms"}, "kill -STOP $$; kill -STOP $$; " + k_stay);
  EXPECT_EQ(again.wait().status, exited(137));
  expect_all_gone(again);
}

TEST_F(MaxHold, EndsATreeThatForksInAnswer)
{
  // Each TERM makes three more, which ignore it.
  const std::string script = "trap 'trap \"\" TERM; for i in 1 2 3; do cat <&8 & done' TERM; "
                             "cat <&8 & until wait; do :; done; " +
                             k_stay;
  Process lockrun = run({"--max-hold", k_ample, "-k", "100ms"}, {"bash", "-c", script});
  EXPECT_EQ(lockrun.wait().status, exited(137));
  expect_all_gone(lockrun);
}

TEST_F(MaxHold, EndsManyAtOnce)
{
  start.before_exec = {hostile::ignore(SIGTERM)};
  Process lockrun = run_script(
    {"--max-hold", "50ms", "-k", "100ms"}, "i=0; while [ $i -lt 100 ]; do cat <&8 & i=$((i+1)); done; " + k_stay);
  EXPECT_EQ(lockrun.wait().status, exited(137));
  expect_all_gone(lockrun);
}

// It is somebody else before anybody can look at it twice.
TEST_F(MaxHold, CatchesAProcessThatForksOnAndOn)
{
  for (const char* kill_after : {"0", "50ms"}) {
    Process lockrun = run({"--hold", "tree", "--max-hold", "50ms", "-k", kill_after}, {program("comet"), "8"});
    EXPECT_THAT(lockrun.wait().status, ::testing::AnyOf(exited(137), exited(124)));
    expect_all_gone(lockrun);
  }
}

// With their ends coming in all the time, what the clock says is heard all the same.
TEST_F(MaxHold, KillsManyThatIgnoreTheSignalAndMakeOrphansOnAndOn)
{
  start.before_exec = {hostile::ignore(SIGTERM)};
  const std::string maker = program("orphans") + " 8 & ";
  Process lockrun =
    run_script({"--max-hold", "200ms", "-k", "200ms"}, maker + maker + maker + maker + maker + maker + k_stay);
  EXPECT_EQ(lockrun.wait().status, exited(137));
  expect_all_gone(lockrun);
}

TEST_F(MaxHold, ActsWhenItIsContinuedAfterTheTimeHasPassed)
{
  std::string command;
  Process lockrun = run_and_stop({"--max-hold", "200ms"}, k_stay, command);
  let_pass("250ms");
  EXPECT_TRUE(lives(command));
  EXPECT_FALSE(is_free(lock));
  lockrun.signal(SIGCONT);
  EXPECT_EQ(lockrun.wait().status, exited(124));
  expect_all_gone(lockrun);
}

TEST_F(MaxHold, IsNoMatterAnyMoreWhenTheCommandHasEnded)
{
  start.in = k_pipe;
  std::string command;
  Process lockrun = run_and_stop({"--max-hold", "2s"}, "echo $$; read line; exit 3", command);
  lockrun.close_input();
  ASSERT_TRUE(eventually([&] { return !lives(command); }));
  let_pass("2050ms");
  lockrun.signal(SIGCONT);
  EXPECT_EQ(lockrun.wait().status, exited(3));
  EXPECT_TRUE(is_free(lock));
}

TEST_F(MaxHold, DoesNotEndDaemonsThatWeDoNotWaitFor)
{
  Process lockrun = run_script({"--max-hold", k_ample}, program("detach") + " sh -c '" + k_stay + "'");
  const std::string daemon = lockrun.out_line().value();
  EXPECT_EQ(lockrun.wait().status, exited(0));
  let_pass(k_ample);
  EXPECT_TRUE(lives(daemon));
}

TEST_F(MaxHold, EndsDaemonsThatWeWaitFor)
{
  Process lockrun =
    run_script({"--max-hold", "100ms", "--hold", "tree"}, program("detach") + " sh -c '" + k_stay + "'; exit 3");
  EXPECT_EQ(lockrun.wait().status, exited(124));
  expect_all_gone(lockrun);
}

TEST_F(MaxHold, CountsFromTheMomentWhenTheLockIsOurs)
{
  HoldingProcess holder(lock);
  Process lockrun = run_script({"--max-hold", k_ample}, "exit 3");
  ASSERT_TRUE(eventually([&] { return kernel_waiters(lock) == 1; }));
  let_pass(k_longer);
  holder.release();
  EXPECT_EQ(lockrun.wait().status, exited(3));
}

// A shell with jobs in the background that executes lockrun: it has children that it never started.
TEST_F(MaxHold, LeavesAloneWhatWasThereBefore)
{
  const std::string jobs = "sh -c '" + k_stay + "' & sh -c 'sh -c \"" + "echo \\$\\$; exec cat <&8" + "\" & wait' & ";
  for (const std::string hold : {"command", "tree"}) {
    Process shell({"sh", "-c",
                    jobs + "read one; exec " + lockrun_binary() + " --max-hold 100ms --hold " + hold + " " + lock +
                      " sh -c 'exec cat <&8 >/dev/null'"},
      [&] {
        Start with_input = start;
        with_input.in = k_pipe;
        return with_input;
      }());
    const std::string child = shell.out_line().value();
    const std::string grandchild = shell.out_line().value();
    shell.write("go\n");
    EXPECT_EQ(shell.wait().status, exited(124));
    EXPECT_TRUE(is_free(lock));
    EXPECT_TRUE(lives(child));
    EXPECT_TRUE(lives(grandchild));
  }
}

TEST_F(MaxHold, TreeDoesNotWaitForWhatWasThereBefore)
{
  start.in = k_pipe;
  Process shell(
    {"sh", "-c",
      "sh -c '" + k_stay + "' & read one; exec " + lockrun_binary() + " --hold tree " + lock + " sh -c 'exit 3'"},
    start);
  const std::string child = shell.out_line().value();
  shell.write("go\n");
  EXPECT_EQ(shell.wait().status, exited(3));
  EXPECT_TRUE(lives(child));
}

TEST_F(MaxHold, NamesWhatItMayNotKillAndKeepsTheLock)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  const auto as_root = dir / "as_root";
  std::filesystem::copy_file(program("as_root"), as_root);
  ASSERT_EQ(::chmod(as_root.c_str(), 04755), 0);
  ASSERT_EQ(::chmod(dir.path().c_str(), 0777), 0);
  start.before_exec = {hostile::become_user(k_nobody)};
  start.err = k_pipe;
  Process lockrun =
    run_script({"--max-hold", k_ample, "-k", "50ms"}, "exec " + as_root.string() + " sh -c '" + k_stay + "'");
  const std::string command = lockrun.out_line().value();
  struct ::stat status {};
  ASSERT_EQ(::stat(("/proc/" + command).c_str(), &status), 0);
  if (status.st_uid != 0) { GTEST_SKIP() << "this file system has no setuid programs"; }
  EXPECT_THAT(lockrun.err_line().value(), HasSubstr("the limit"));
  const std::string line = lockrun.err_line().value();
  EXPECT_THAT(line, HasSubstr("cannot end PID " + command + " ("));
  EXPECT_THAT(line, HasSubstr("; keeping '" + lock + "' locked until they have ended"));
  EXPECT_TRUE(lives(command));
  EXPECT_FALSE(is_free(lock));
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(137));
  EXPECT_TRUE(is_free(lock));
}

TEST_F(MaxHold, IsToldToTheQuiet)
{
  EXPECT_THAT(run_script({"-q", "--max-hold", "50ms"}, k_stay).wait().err, HasSubstr("the limit"));
}

} // namespace
} // namespace lockrun::testing
