// What is told to programs about locks of engines: --events and --status.

#include "end_to_end/engine_fixture.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class EngineEvents : public Engines {
protected:
  std::string events() const { return read_file(dir / "events"); }
  Words with_events(Words options = {}) const
  {
    options.insert(options.end(), {"--events", dir / "events"});
    return options;
  }
};

TEST_F(EngineEvents, TellTheToken)
{
  plays(k_held + k_release);
  EXPECT_EQ(finish("exit 5", with_events()).status, exited(5));
  EXPECT_THAT(events(), AllOf(HasSubstr("\"event\":\"acquired\""), HasSubstr("\"token\":\"7\""),
                          HasSubstr("\"outcome\":\"ran\",\"exit_code\":5")));
}

TEST_F(EngineEvents, TellOfALossAndHowItEnded)
{
  plays(k_held + "await 7\nsend LOST reason=lease%20gone\n" + k_release);
  start.out = k_pipe;
  Process lockrun = run_script(k_stay, with_events());
  lockrun.out_line();
  cue.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(76));
  EXPECT_THAT(events(), AllOf(HasSubstr("\"event\":\"lost\""), HasSubstr("\"error\":\"lease gone\""),
                          HasSubstr("\"outcome\":\"lost\",\"exit_code\":76")));
}

TEST_F(EngineEvents, TellOfADeadlineWithThePidOfTheCall)
{
  plays(k_acquire + "send HELD token=7 ttl_ms=3000 deadline=@2990\ndeaf\n");
  Process lockrun = run_script(k_stay, with_events());
  const std::string pid = "\"pid\":" + std::to_string(lockrun.pid()) + ",";
  EXPECT_EQ(lockrun.wait().status, exited(76));
  std::istringstream lines(events());
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) { EXPECT_THAT(line, HasSubstr(pid)); }
  EXPECT_EQ(count, 3); // acquired, lost, finished
}

TEST_F(EngineEvents, TellOfFailuresWithoutPasswords)
{
  url = "fake://user:s3cret@host/deploy";
  plays(k_acquire + "send WAITING position=1 holder=PID%207%20on%20web1\neof\n");
  EXPECT_EQ(finish("exit 5", with_events({"-w", "2s"})).status, exited(75));
  EXPECT_THAT(
    events(), AllOf(HasSubstr("\"event\":\"waiting\""), HasSubstr("\"outcome\":\"timed_out\",\"exit_code\":75"),
                HasSubstr("held by PID 7 on web1"), Not(HasSubstr("s3cret"))));
}

struct Named {
  const char* name;
  std::string said;
  Words options;
  const char* outcome;
  const char* holder;
};
const std::string k_named_holder = "send WAITING position=1 holder=PID%207%20on%20web1 holder_mode=shared "
                                   "holder_host=web1 holder_pid=7 holder_user=ann holder_command=make%20all "
                                   "holder_since_ms=1700000000000\n";
constexpr const char* k_named = "\"holder\":{\"pid\":7,\"user\":\"ann\",\"host\":\"web1\",\"command\":\"make "
                                "all\",\"api\":\"engine\",\"since\":\"2023-11-14T22:13:20.000000Z\"";
const std::vector<Named> k_named_holders = {
  {"busy", k_named_holder + "send FAIL status=75 reason=busy holder=PID%207%20on%20web1\n", {"-n"}, "busy", k_named},
  {"busy_without_words", k_named_holder + "send FAIL status=75 reason=busy\n", {"-n"}, "busy", k_named},
  {"too_many", k_named_holder + "send FAIL status=75 reason=too_many_waiters\n", {"--max-waiters", "1"}, "busy",
    k_named},
  {"too_many_is_one", k_named_holder + "send FAIL status=75 reason=busy\n", {"--max-waiters", "0"}, "busy", k_named},
  {"timed_out_there", k_named_holder + "send FAIL status=75 reason=timed_out\n", {"-w", "1m"}, "timed_out", k_named},
  {"timed_out_here", k_named_holder + "eof\n", {"-w", "100ms"}, "timed_out", k_named},
  {"words_only", "send FAIL status=75 reason=busy holder=somebody\n", {"-n"}, "busy",
    "\"holder\":{\"pid\":null,\"user\":null,\"command\":\"somebody\","},
  {"another_one_at_last", k_named_holder + "send FAIL status=75 reason=busy holder=X holder_pid=8 holder_command=ls\n",
    {"-n"}, "busy", "\"holder\":{\"pid\":8,\"user\":null,\"command\":\"ls\","},
};
class EngineEventsOfFailures : public EngineEvents, public ::testing::WithParamInterface<Named> {};
TEST_P(EngineEventsOfFailures, NameTheHolder)
{
  plays(k_acquire + GetParam().said);
  EXPECT_EQ(finish(leave_a_mark, with_events(GetParam().options)).status, exited(75));
  EXPECT_THAT(events(),
    AllOf(HasSubstr(std::string("\"outcome\":\"") + GetParam().outcome + "\""), HasSubstr(GetParam().holder)));
  expect_nothing_ran();
}
INSTANTIATE_TEST_SUITE_P(
  Table, EngineEventsOfFailures, ::testing::ValuesIn(k_named_holders), [](const auto& row) { return row.param.name; });

// --- The state of a lock

const std::string k_status = k_greet + "expect STATUS\n";

TEST_F(Engines, TellWhoHoldsTheLockAndWhoWaits)
{
  plays(
    k_status +
    "send HOLDER mode=exclusive token=17 host=web1 pid=4312 user=ann command=make%20all since_ms=1700000000000\n"
    "send WAITER position=1 mode=shared host=web2 pid=7 user=bob command=ls since_ms=1700000001000\nsend END\neof\n");
  url = "fake://user:s3cret@host/deploy";
  const Finished table = run_lockrun({"--status", url}, start);
  EXPECT_EQ(table.status, exited(75));
  EXPECT_THAT(table.out, AllOf(HasSubstr("fake://user:******@host/deploy"), HasSubstr("exclusive"), HasSubstr("4312"),
                           HasSubstr("ann@web1"), HasSubstr("make all"), HasSubstr("waits 1"), HasSubstr("bob@web2")));
  const Finished json = run_lockrun({"--status", "--json", url}, start);
  EXPECT_EQ(json.status, exited(75));
  EXPECT_THAT(json.out, AllOf(HasSubstr("\"state\":\"exclusive\",\"api\":\"engine\""),
                          HasSubstr("\"pid\":4312,\"user\":\"ann\",\"host\":\"web1\""),
                          HasSubstr("\"since\":\"2023-11-14T22:13:20.000000Z\""), HasSubstr("\"token\":\"17\""),
                          HasSubstr("\"position\":1"), Not(HasSubstr("s3cret"))));
}

TEST_F(Engines, TellWhatTheyKnowOfAHolderWithoutAName)
{
  plays(k_status + "send HOLDER mode=exclusive token=17 text=somebody%20(key%20a/1)\nsend END\neof\n");
  const Finished table = run_lockrun({"--status", url}, start);
  EXPECT_EQ(table.status, exited(75));
  EXPECT_THAT(table.out, ::testing::MatchesRegex("LOCK .*\nfake://host/deploy +exclusive +somebody \\(key a/1\\)\n"));
}

TEST_F(Engines, TellThatALockIsFree)
{
  plays(k_status + "send END\neof\n");
  const Finished ended = run_lockrun({"--status", url}, start);
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_THAT(ended.out, HasSubstr("free"));
}

TEST_F(Engines, FailToTellAsTheyFailToLock)
{
  plays(k_status + "send FAIL status=69 reason=unreachable text=no%20way\neof\n");
  const Finished ended = run_lockrun({"--status", url}, start);
  EXPECT_EQ(ended.status, exited(69));
  EXPECT_THAT(ended.err, HasSubstr("no way"));
  plays("expect LOCKRUN\nsend ENGINE version=1 name=fake can=shared\neof\n");
  EXPECT_THAT(run_lockrun({"--status", url}, start).err, HasSubstr("cannot do '--status'"));
  EXPECT_EQ(run_lockrun({"--probe", url}, start).status, exited(64));
}

} // namespace
} // namespace lockrun::testing
