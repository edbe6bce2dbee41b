// A lock of an engine is lost, or not renewed in time: the command and its tree end before another can have the lock.

#include "end_to_end/engine_fixture.hpp"
#include "support/eventually.hpp"
#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"

#include <algorithm>
#include <csignal>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lockrun::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// What ends the lock for good, and the reason that is told.
struct Loss {
  const char* name;
  std::string script;
  const char* words;
};
const std::vector<Loss> k_losses = {
  {"told", "send LOST reason=lease%20gone\n" + k_release, "lease gone"},
  {"failed", "send FAIL status=70 reason=x text=no%20more\n" + k_release, "no more"},
  {"killed", "kill\n", "lockrun-engine-fake has ended"},
  {"ended", "exit 0\n", "lockrun-engine-fake has ended"},
  {"garbage", "raw garbage\\n\neof\n", "lockrun-engine-fake sends a line of which it does not begin with a verb"},
  {"unknown_verb", "send HUH\neof\n", "lockrun-engine-fake sends an unexpected 'HUH'"},
  {"another_lock", "send HELD token=8 ttl_ms=60000 deadline=@50000\neof\n", "sends an unexpected 'HELD'"},
  {"too_long", "flood 70000\neof\n", "lockrun-engine-fake sends a line longer than 64 KiB"},
  {"impossible_deadline", "send RENEWED deadline=@90000\neof\n", "sends a deadline that cannot be"},
  {"no_deadline", "send RENEWED\neof\n", "sends a deadline that cannot be"},
};
class EnginesLoseTheLock : public Engines, public ::testing::WithParamInterface<Loss> {
protected:
  EnginesLoseTheLock()
  {
    plays(k_held + "await 7\n" + GetParam().script);
    start.out = k_pipe;
  }
};
TEST_P(EnginesLoseTheLock, AndTheTreeIsAskedToEnd)
{
  Process lockrun = run_script(program("detach") + " sh -c '" + k_stay + "'; " + k_stay);
  lockrun.out_line();
  lockrun.out_line();
  cue.close_write();
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(76));
  EXPECT_THAT(ended.err, AllOf(StartsWith("lockrun: 'fake://host/deploy' is lost: "), HasSubstr(GetParam().words),
                           HasSubstr("; ending the command and all that it started with SIGTERM\n")));
  EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 1);
  expect_all_gone(lockrun);
}
TEST_P(EnginesLoseTheLock, AndTheTreeIsKilledWhenItDoesNotEnd)
{
  Process lockrun = run_script(program("detach") + " " + program("signals") + " 8; " + k_stubborn, {"-k", "200ms"});
  lockrun.out_line();
  lockrun.out_line();
  cue.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(76));
  expect_all_gone(lockrun);
}
INSTANTIATE_TEST_SUITE_P(
  Table, EnginesLoseTheLock, ::testing::ValuesIn(k_losses), [](const auto& row) { return row.param.name; });

// How long a command that ignores the first signal lives on, in milliseconds, with a minute's lock (4 s of grace, 1.2
// s of margin) and what the engine says in the end.
class LastGrace : public Engines {
protected:
  long long measure(const std::string& end, const Words& options = {}, const std::string& begin = k_held)
  {
    plays(begin + "await 7\n" + end);
    start.out = k_pipe;
    Pipe fresh;
    start.descriptors[7] = fresh.read_end;
    Process lockrun = run(options, {program("signals"), "8"});
    const pid_t command = std::stoi(lockrun.out_line().value().substr(std::string("ready ").size()));
    const long long began = elapsed_ms();
    fresh.close_write();
    EXPECT_EQ(lockrun.out_line(), "TERM");
    EXPECT_TRUE(eventually([&] { return !lives(command); }));
    const long long took = elapsed_ms() - began;
    EXPECT_EQ(lockrun.wait().status, exited(76));
    return took;
  }
};
constexpr int k_margin = 1200;
constexpr int k_short = 3500; // half of the margin, and all that a busy machine adds; not the whole grace

TEST_F(LastGrace, EndsWithinTheMarginWhenTheServerHasGivenTheLockAway)
{
  EXPECT_LT(measure("send LOST reason=x\neof\n"), k_short);
  EXPECT_LT(measure("send LOST reason=x deadline=@-5000\neof\n"), k_short);
  EXPECT_LT(measure("send LOST reason=x deadline=@900000000\neof\n"), k_short) << "which cannot be";
  EXPECT_LT(measure("send FAIL status=70 reason=x text=y\neof\n"), k_short);
  EXPECT_LT(measure("send LOST reason=x\neof\n", {"--signal", "TERM"}), k_short);
}

TEST_F(LastGrace, IsTheOneThatWasAskedFor)
{
  EXPECT_GE(measure("send LOST reason=x\neof\n", {"-k", "2s"}), 2000);
}

TEST_F(LastGrace, IsNoShorterWhileTheLockIsSure)
{
  EXPECT_GE(measure("send LOST reason=x deadline=@2400\neof\n"), 2400 - k_margin - 100);
}

// Nobody else has the lock before the deadline.
TEST_F(LastGrace, IsWhatIsLeftOfTheDeadlineWhenOnlyTheEngineHasEnded)
{
  EXPECT_GE(measure("exit 0\n", {}, held(9000)), 600) << "a fifteenth of the time to live";
  EXPECT_GE(measure("exit 0\n", {"-k", "2s"}, held(9000)), 2000);
}

TEST_F(Engines, LeaveTheEventsOfALockThatWasLost)
{
  plays(k_held + "await 7\nsend LOST reason=lease%20gone\neof\n");
  const std::string events = dir / "events";
  start.out = k_pipe;
  Process lockrun = run_script("echo; exec cat <&8", {"--events", events});
  lockrun.out_line(); // it runs
  cue.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(76));
  std::vector<std::string> names;
  nlohmann::json last;
  std::ifstream lines(events);
  for (std::string line; std::getline(lines, line);) {
    last = nlohmann::json::parse(line);
    names.push_back(last.at("event"));
    if (names.back() == "lost") { EXPECT_THAT(last.at("error").get<std::string>(), HasSubstr("lease gone")); }
  }
  EXPECT_THAT(names, ElementsAre("acquired", "lost", "finished"));
  EXPECT_EQ(last.at("outcome"), "lost");
  EXPECT_EQ(last.at("exit_code"), 76);
}

TEST_F(Engines, SendTheSignalThatTheyAreToldWhenTheLockIsLost)
{
  plays(k_held + "await 7\nsend LOST reason=x\neof\n");
  start.out = k_pipe;
  Process lockrun = run({"--signal", "INT", "-k", "1h"}, {program("signals"), "8"});
  lockrun.out_line(); // ready
  cue.close_write();
  EXPECT_EQ(lockrun.out_line(), "INT");
  EXPECT_EQ(lockrun.out_line(), "CONT");
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(76));
}

TEST_F(Engines, AreToldThatTheTreeIsEmptyOnlyWhenItIs)
{
  plays(k_held + "await 7\nsend LOST reason=x\nexpect RELEASE\nsend RELEASED\n");
  start.out = k_pipe;
  Process lockrun = run({"-k", "1h"}, {program("signals"), "8"});
  lockrun.out_line(); // ready
  cue.close_write();
  EXPECT_EQ(lockrun.out_line(), "TERM");
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE"));
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(76));
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "RELEASE"));
}

// --- The deadline

constexpr int k_ttl = 3000;
const std::string k_soon_over = held(k_ttl) + "tell 9\n";

class Deadlines : public Engines {
protected:
  Deadlines()
  {
    plays(k_soon_over + "deaf\n");
    start.out = k_pipe;
    not_before = elapsed_ms() + k_ttl - 10; // the deadline is this or later
  }
  // Starts it and waits until the command runs, whose number is returned.
  pid_t begin(std::optional<Process>& lockrun, const std::string& script, const Words& options = {})
  {
    not_before = elapsed_ms() + k_ttl - 10;
    lockrun.emplace(run_script(script, options));
    const std::string line = lockrun->out_line().value_or("0");
    return std::stoi(line);
  }
  void stop(pid_t pid) const
  {
    ASSERT_GT(pid, 0);
    ASSERT_EQ(::kill(pid, SIGSTOP), 0);
    ASSERT_TRUE(eventually([&] { return has_stopped(pid); }));
  }
  void pass_deadline() const
  {
    const long long end = elapsed_ms() + k_ttl;
    ASSERT_TRUE(eventually([&] { return elapsed_ms() >= end; }));
  }

  long long not_before = 0;
};

const std::string k_ran_out =
  "lockrun: 'fake://host/deploy' could not be renewed in time: ending the command and all that "
  "it started with SIGTERM\n";

TEST_F(Deadlines, EndTheTreeWellBeforeTheLockIsSomebodyElses)
{
  std::optional<Process> lockrun;
  const pid_t command = begin(lockrun, k_stay);
  ASSERT_TRUE(eventually([&] { return !lives(command); }));
  EXPECT_LT(elapsed_ms(), not_before);
  const Finished ended = lockrun->wait();
  EXPECT_EQ(ended.status, exited(76));
  EXPECT_EQ(ended.err, k_ran_out);
  expect_all_gone(*lockrun);
}

TEST_F(Deadlines, KillWhatDoesNotEnd)
{
  std::optional<Process> lockrun;
  begin(lockrun, program("detach") + " " + program("signals") + " 8 >/dev/null; " + k_stubborn);
  EXPECT_EQ(lockrun->wait().status, exited(76));
  expect_all_gone(*lockrun);
}

TEST_F(Deadlines, CatchAProcessThatForksOnAndOn)
{
  std::optional<Process> lockrun;
  lockrun.emplace(run({"--hold", "tree"}, {program("comet"), "8"}));
  EXPECT_EQ(lockrun->out_line(), "flying");
  EXPECT_EQ(lockrun->wait().status, exited(76));
  expect_all_gone(*lockrun);
}

TEST_F(Deadlines, AreFinalWhateverALateAnswerSays)
{
  plays(k_acquire + "send HELD token=7 ttl_ms=60000 deadline=@21000\npass 1500\nsend RENEWED deadline=@50000\neof\n");
  // Asks after 2.8 s: 21 s less 1.2 s margin, less 17 s of grace.
  start.environment["FAKE_ENGINE"] =
    k_acquire + "send HELD token=7 ttl_ms=60000 deadline=@21000\nawait 7\nsend RENEWED deadline=@50000\neof\n";
  Process lockrun = run({"-k", "17s"}, {program("signals"), "8"});
  EXPECT_THAT(lockrun.out_line().value(), StartsWith("ready"));
  EXPECT_EQ(lockrun.out_line(), "TERM");
  cue.close_write(); // and it is renewed
  EXPECT_EQ(lockrun.out_line(), "CONT");
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(76));
}

TEST_F(Deadlines, HoldForAStoppedEngine)
{
  plays(k_soon_over + "stop\n");
  std::optional<Process> lockrun;
  const pid_t command = begin(lockrun, k_stay);
  const pid_t engine = engine_of(*lockrun);
  ASSERT_TRUE(eventually([&] { return !lives(command); }));
  EXPECT_LT(elapsed_ms(), not_before);
  EXPECT_EQ(lockrun->wait().status, exited(76));
  EXPECT_FALSE(lives(engine));
}

// Although the engine renews on and on, nobody tells the twin.
TEST_F(Deadlines, HoldForAStoppedGuard)
{
  plays(k_soon_over + "renew 100 2900\n" + k_release);
  for (const std::string& script : {k_stay, k_stubborn}) {
    std::optional<Process> lockrun;
    const pid_t command = begin(lockrun, script);
    lockrun->signal(SIGSTOP);
    ASSERT_TRUE(eventually([&] { return !lives(command); }));
    if (script == k_stay) { EXPECT_LT(elapsed_ms(), not_before + k_ttl); }
    EXPECT_TRUE(has_stopped(lockrun->pid()));
    EXPECT_EQ(lockrun->err_so_far(), k_ran_out);
    lockrun->signal(SIGCONT);
    const Finished ended = lockrun->wait();
    EXPECT_EQ(ended.status, exited(76));
    EXPECT_EQ(ended.err, k_ran_out);
    expect_all_gone(*lockrun);
  }
}

// Nor does it help the command of a stopped twin: were the guard killed, too, nobody would end it.
TEST_F(Deadlines, HoldForAStoppedTwin)
{
  plays(k_soon_over + "renew 100 2900\n" + k_release);
  for (const std::string& script : {k_stay, k_stubborn}) {
    std::optional<Process> lockrun;
    begin(lockrun, script);
    const pid_t twin = twin_of(*lockrun);
    stop(twin); // renewals that came before it counted
    const Finished ended = lockrun->wait();
    EXPECT_EQ(ended.status, exited(76));
    EXPECT_EQ(ended.err, k_ran_out);
    expect_all_gone(*lockrun);
    EXPECT_FALSE(lives(twin));
  }
}

// As a suspended machine or a frozen cgroup does it: all stand still, and go on when it is too late.
TEST_F(Deadlines, HoldForAllThatStoodStill)
{
  std::optional<Process> lockrun;
  lockrun.emplace(run({}, {program("signals"), "8"}));
  const pid_t command = std::stoi(lockrun->out_line().value().substr(std::string("ready ").size()));
  const pid_t twin = twin_of(*lockrun);
  const pid_t engine = engine_of(*lockrun);
  for (const pid_t pid : {lockrun->pid(), twin, engine}) { stop(pid); }
  pass_deadline();
  EXPECT_TRUE(lives(command));
  for (const pid_t pid : {engine, twin, lockrun->pid()}) { ::kill(pid, SIGCONT); }
  EXPECT_FALSE(lockrun->out_line()); // no word of any other signal: it was killed
  EXPECT_EQ(lockrun->wait().status, exited(76));
}

TEST_F(Deadlines, DoNotBelieveRenewalsThatWaitedForAStoppedGuard)
{
  plays(k_soon_over + "renew 100 2900\n" + k_release);
  std::optional<Process> lockrun;
  const pid_t command = begin(lockrun, k_stay);
  const pid_t twin = twin_of(*lockrun);
  lockrun->signal(SIGSTOP);
  ASSERT_TRUE(eventually([&] { return has_stopped(lockrun->pid()); }));
  stop(twin);
  pass_deadline();
  EXPECT_TRUE(lives(command));
  lockrun->signal(SIGCONT); // the twin remains stopped, and dozens of renewals are there to be read
  EXPECT_EQ(lockrun->wait().status, exited(76));
  expect_all_gone(*lockrun);
}

} // namespace
} // namespace lockrun::testing
