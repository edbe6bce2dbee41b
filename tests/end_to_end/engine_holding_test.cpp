// The command runs under a lock of an engine, and the lock is given back when it has ended.

#include "end_to_end/engine_fixture.hpp"
#include "support/eventually.hpp"
#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"

#include <csignal>
#include <filesystem>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(Engines, RunTheCommandUnderTheirLockAndGetItBack)
{
  plays(k_held + k_release);
  const Finished ended = finish("exit 5");
  EXPECT_EQ(ended.status, exited(5));
  EXPECT_EQ(ended.err, "");
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "RELEASE"));
}

TEST_F(Engines, SayAsMuchOfTheLockAsIsSaidOfALocalOne)
{
  plays(k_held + k_release);
  const Finished ended = finish("exit 5", {"-v"});
  EXPECT_EQ(ended.status, exited(5));
  EXPECT_THAT(ended.err, ::testing::MatchesRegex("lockrun: got 'fake://host/deploy' after [0-9.]+m?s\n"
                                                 "lockrun: released 'fake://host/deploy' after [0-9.]+m?s\n"));
}

TEST_F(Engines, TellTheCommandWhatItHolds)
{
  plays(held(60'000, "epoch=3 key=a%20b/1f slot=2") + k_release);
  const Finished ended = finish("echo $LOCKRUN_TOKEN,$LOCKRUN_TOKEN_EPOCH,$LOCKRUN_KEY,$LOCKRUN_SLOT,$LOCKRUN_LOCK; "
                                "[ $LOCKRUN_DEADLINE -gt 0 ] && [ $LOCKRUN_PID -gt 0 ]");
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_EQ(ended.out, "7,3,a b/1f,2,fake://host/deploy\n");
}

TEST_F(Engines, DoNotHideTheLocksAroundTheirs)
{
  plays(held(60'000, "key=here") + k_release);
  start.environment["LOCKRUN_LOCK_1"] = "fake://host/outer";
  start.environment["LOCKRUN_TOKEN"] = "3";
  start.environment["LOCKRUN_TOKEN_1"] = "3";
  start.environment["LOCKRUN_TOKEN_EPOCH"] = "9"; // the outer one's
  const Finished ended = finish("echo $LOCKRUN_TOKEN,$LOCKRUN_TOKEN_1,$LOCKRUN_TOKEN_2,$LOCKRUN_LOCK_1,$LOCKRUN_LOCK_2,"
                                "$LOCKRUN_KEY_2,$LOCKRUN_TOKEN_EPOCH");
  EXPECT_EQ(ended.out, "7,3,7,fake://host/outer,fake://host/deploy,here,\n");
}

TEST_F(Engines, LeaveNoDescriptorToTheCommand)
{
  plays(k_held + k_release);
  EXPECT_EQ(run({}, {"ls", "/proc/self/fd"}).wait().out, "0\n1\n2\n3\n7\n8\n9\n") << "3 is the directory";
}

TEST_F(Engines, AreOutOfReachOfTheTerminalsKeys)
{
  plays(k_held + k_release);
  start.out = k_pipe;
  Process lockrun = run_script(k_stay);
  lockrun.out_line();
  const pid_t engine = engine_of(lockrun);
  ASSERT_GT(engine, 0);
  EXPECT_EQ(::getsid(engine), engine);
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(0));
  EXPECT_FALSE(lives(engine));
}

TEST_F(Engines, MayHaveATokenThatIsText)
{
  plays(k_acquire + "send HELD token=16/B374D848 epoch=7-a ttl_ms=60000 deadline=@50000\n" + k_release);
  const Finished ended =
    finish("echo $LOCKRUN_TOKEN,$LOCKRUN_TOKEN_1,$LOCKRUN_TOKEN_EPOCH", {"--events", dir / "events"});
  EXPECT_EQ(ended.out, "16/B374D848,16/B374D848,7-a\n");
  EXPECT_THAT(read_file(dir / "events"), HasSubstr("\"token\":\"16/B374D848\""));
}

TEST_F(Engines, AreToldWhenTheCommandCannotBeRun)
{
  plays(k_held + k_release);
  const Finished ended = run({}, {"./nothing"}).wait();
  EXPECT_EQ(ended.status, exited(127));
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "RELEASE"));
}

// --- While the command runs

TEST_F(Engines, KeepTheLockByRenewingIt)
{
  plays(held(3000) + "renew 200 2900\n" + k_release);
  start.out = k_pipe;
  const long long first_deadline = elapsed_ms() + 3000;
  Process lockrun = run_script(k_stay);
  const pid_t command = std::stoi(lockrun.out_line().value());
  ASSERT_TRUE(eventually([&] { return elapsed_ms() > first_deadline + 1000 || !lives(command); }));
  EXPECT_TRUE(lives(command));
  leash.close_write();
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_EQ(ended.err, "");
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "RELEASE"));
}

TEST_F(Engines, HaveTheirSignalsPassedOnToTheCommand)
{
  plays(k_held + k_release);
  start.out = k_pipe;
  Process lockrun = run({}, {program("signals"), "8"});
  lockrun.out_line(); // ready
  for (const auto& [signal, name] :
    {std::pair(SIGTERM, "TERM"), {SIGINT, "INT"}, {SIGHUP, "HUP"}, {SIGUSR1, "USR1"}, {SIGWINCH, "WINCH"}}) {
    lockrun.signal(signal);
    EXPECT_EQ(lockrun.out_line(), name);
  }
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(0));
}

TEST_F(Engines, AreToldOnceTheCommandHasDiedOfASignal)
{
  plays(k_held + k_release);
  start.out = k_pipe;
  Process lockrun = run_script(k_stay);
  lockrun.out_line();
  lockrun.signal(SIGTERM);
  EXPECT_EQ(lockrun.wait().status, exited(128 + SIGTERM));
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "RELEASE"));
}

TEST_F(Engines, SayOnceThatTheyAreInTrouble)
{
  plays(k_held + "send TROUBLE text=no%20answer\nsend TROUBLE text=still%20none\ntell 9\n" + k_release);
  start.out = k_pipe;
  Process lockrun = run_script(k_stay);
  lockrun.out_line();
  ASSERT_TRUE(notice.await());
  ASSERT_TRUE(eventually([&] { return !lockrun.err_so_far().empty(); }));
  leash.close_write();
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_EQ(ended.err, "lockrun: trouble with 'fake://host/deploy': no answer, trying again\n");
}

TEST_F(Engines, LimitHowLongTheLockIsHeld)
{
  plays(k_held + k_release);
  start.out = k_pipe;
  Process lockrun = run_script(k_stay, {"--max-hold", "100ms"});
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(124));
  EXPECT_THAT(ended.err, HasSubstr("has been held for 100ms, the limit"));
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "RELEASE"));
  expect_all_gone(lockrun);

  start.before_exec = {hostile::ignore(SIGTERM)}; // it may come before the script's own trap
  Process stubborn = run_script(k_stubborn, {"--max-hold", "100ms", "-k", "100ms"});
  EXPECT_EQ(stubborn.wait().status, exited(137));
  expect_all_gone(stubborn);
}

TEST_F(Engines, HoldTheLockForTheWholeTreeIfAsked)
{
  plays(k_held + k_release);
  start.out = k_pipe;
  Process lockrun = run_script(program("detach") + " sh -c '" + k_stay + "'; exit 5", {"--hold", "tree"});
  const pid_t daemon = std::stoi(lockrun.out_line().value());
  ASSERT_TRUE(eventually([&] { return read_file("/proc/" + std::to_string(daemon) + "/comm") == "cat\n"; }));
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE"));
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(5));
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "RELEASE"));
}

TEST_F(Engines, LeaveDaemonsAloneWhenTheCommandHasEndedAndNameThem)
{
  plays(k_held + k_release);
  start.out = k_pipe;
  Process lockrun = run_script(program("detach") + " sh -c '" + k_stay + "'", {"-v"});
  const pid_t daemon = std::stoi(lockrun.out_line().value());
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_THAT(ended.err, HasSubstr("the command left running: PID " + std::to_string(daemon)));
  EXPECT_TRUE(lives(daemon));
}

TEST_F(Engines, LeaveTheCommandWithOneSignalOfThoseToAll)
{
  plays(k_held + k_release);
  start.before_exec = {hostile::new_session()};
  start.out = k_pipe;
  start.err = k_captured;
  Process lockrun = run({"-v"}, {program("signals"), "8"});
  ASSERT_TRUE(lockrun.out_line()); // ready
  ASSERT_TRUE(eventually([&] { return child_called(twin_of(lockrun), "signal-witness") != 0; }));
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1}) {
    for (const pid_t whom : {-lockrun.pid(), lockrun.pid()}) {
      ASSERT_EQ(::kill(whom, signal), 0);
      EXPECT_EQ(lockrun.out_line(), std::string(::sigabbrev_np(signal)));
      lockrun.signal(SIGWINCH);
      EXPECT_EQ(lockrun.out_line(), "WINCH");
    }
  }
  leash.close_write();
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_THAT(ended.err, Not(HasSubstr("witness")));
}

// --- The end

TEST_F(Engines, LeaveTheStatusAloneWhenTheyCannotSayThatTheLockIsFree)
{
  for (const std::string last : {"expect RELEASE\nexit 0\n", "expect RELEASE\nsend FAIL status=69 text=x\neof\n"}) {
    plays(k_held + last);
    const Finished ended = finish("exit 5");
    EXPECT_EQ(ended.status, exited(5));
    EXPECT_EQ(ended.err, "lockrun: 'fake://host/deploy' could not be released; it is free in 1m at the latest\n");
  }
  for (const std::string& end :
    {held(3000) + "expect RELEASE\ndeaf\n", k_held + "expect RELEASE\nsend RELEASED text=the%20key%20stays\neof\n"}) {
    plays(end);
    const Finished ended = finish("exit 5");
    EXPECT_EQ(ended.status, exited(5));
    EXPECT_THAT(ended.err, HasSubstr("could not be released"));
  }
}

// The engine for etcd tries for five seconds to reach its servers.
TEST_F(Engines, MayTakeTheirTimeToGiveTheLockBack)
{
  plays(k_held + "expect RELEASE\npass 5200\nsend RELEASED\n");
  const Finished ended = finish("exit 5");
  EXPECT_EQ(ended.status, exited(5));
  EXPECT_EQ(ended.err, "");
}

TEST_F(Engines, MaySayAtTheEndThatTheLockHadBeenLost)
{
  plays(k_held + "expect RELEASE\nsend RENEWED deadline=@50000\nsend LOST reason=x\neof\n");
  const Finished ended = finish("exit 5");
  EXPECT_EQ(ended.status, exited(76));
  EXPECT_THAT(ended.err, HasSubstr("was lost before it was released: the command may not have been alone"));
}

TEST_F(Engines, GiveNothingBackWhileTheTreeCannotBeEnded)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  const auto as_root = dir / "as_root";
  std::filesystem::copy_file(program("as_root"), as_root);
  ASSERT_EQ(::chmod(as_root.c_str(), 04755), 0);
  ASSERT_EQ(::chmod(dir.path().c_str(), 0777), 0);
  plays(k_held + "await 7\nsend LOST reason=x\neof\n");
  start.before_exec = {hostile::become_user(k_nobody)};
  start.out = k_pipe;
  start.err = k_pipe;
  Process lockrun = run_script("exec " + as_root.string() + " sh -c '" + k_stay + "'", {"-k", "50ms"});
  const std::string command = lockrun.out_line().value();
  struct ::stat status {};
  ASSERT_EQ(::stat(("/proc/" + command).c_str(), &status), 0);
  if (status.st_uid != 0) { GTEST_SKIP() << "this file system has no setuid programs"; }
  cue.close_write();
  EXPECT_THAT(lockrun.err_line().value(), HasSubstr("is lost"));
  const std::string line = lockrun.err_line().value();
  EXPECT_THAT(line, AllOf(HasSubstr("cannot end PID " + command + " ("),
                      HasSubstr("; not releasing 'fake://host/deploy' until they have ended")));
  EXPECT_TRUE(eventually([&] { return said().find("ABANDON") != std::string::npos; }));
  EXPECT_THAT(said(), Not(HasSubstr("RELEASE")));
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(76));
}

} // namespace
} // namespace lockrun::testing
