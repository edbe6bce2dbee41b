// An engine is found and asked for a lock, and what happens until there is one, or none.

#include "end_to_end/engine_fixture.hpp"
#include "support/eventually.hpp"
#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

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
using ::testing::StartsWith;

struct Asked {
  const char* name;
  Words options;
  const char* field;
};
const std::vector<Asked> k_asked = {
  {"nothing", {}, " mode=exclusive slots=0 nonblock=0 wait_ms=-1 max_waiters=0 ttl_ms=0 "},
  {"shared", {"-s"}, " mode=shared "},
  {"no_wait", {"-n"}, " nonblock=1 wait_ms=-1 "},
  {"wait_zero", {"-w", "0"}, " nonblock=1 wait_ms=-1 "},
  {"wait", {"-w", "1.5"}, " nonblock=0 wait_ms=1500 "},
  {"few_waiters", {"--max-waiters", "3"}, " nonblock=0 wait_ms=-1 max_waiters=3 "},
  {"no_waiters", {"--max-waiters", "0"}, " nonblock=1 wait_ms=-1 max_waiters=0 "},
  {"no_waiters_and_a_wait", {"--max-waiters", "0", "-w", "5"}, " nonblock=1 wait_ms=-1 "},
};
class EnginesAreAsked : public Engines, public ::testing::WithParamInterface<Asked> {};
TEST_P(EnginesAreAsked, ForWhatTheOptionsSay)
{
  plays(k_held + k_release);
  EXPECT_EQ(finish("exit 0", GetParam().options).status, exited(0));
  EXPECT_THAT(said(), HasSubstr(GetParam().field));
}
INSTANTIATE_TEST_SUITE_P(
  Table, EnginesAreAsked, ::testing::ValuesIn(k_asked), [](const auto& row) { return row.param.name; });

TEST_F(Engines, HearWhoAsksAndForHowLong)
{
  plays(k_held + k_release);
  url = "fake://host/deploy?ttl=1m";
  EXPECT_EQ(run({}, {"sh", "-c", "exit 0"}).wait().status, exited(0));
  EXPECT_THAT(said(), AllOf(HasSubstr(" ttl_ms=60000 "), HasSubstr(" command=sh%20-c%20exit%200 "), HasSubstr(" pid="),
                        HasSubstr(" host="), HasSubstr(" user="), HasSubstr(" since_ms=")));
}

TEST_F(Engines, HearOnlyTheNameOfTheCommandIfItIsToBePublishedAlone)
{
  plays(k_held + k_release);
  url = "fake://host/deploy?publish=name";
  EXPECT_EQ(run({"--events", dir / "events"}, {"/bin/sh", "-c", "exit 5"}).wait().status, exited(5));
  EXPECT_THAT(said(), AllOf(HasSubstr(" command=sh "), HasSubstr("?publish=name"), Not(HasSubstr("exit"))));
  EXPECT_THAT(read_file(dir / "events"), HasSubstr("\"command\":\"/bin/sh -c exit 5\""));
}

TEST_F(Engines, AreFoundByASchemeInCapitals)
{
  plays(k_held + k_release);
  url = "FaKe://user:s3cret@host/deploy";
  const Finished ended = finish("echo $LOCKRUN_LOCK");
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_EQ(ended.out, "FaKe://user:******@host/deploy\n");
}

TEST_F(Engines, AreMeantByWhatLooksLikeAUrl)
{
  start.directory = dir.path();
  for (const char* const lock : {"ftp2.x+y-z://host/x", "NOPE://host/x", "9p://x", "etcd2://"}) {
    const Finished ended = run_lockrun({lock, "touch", "ran"}, start);
    EXPECT_EQ(ended.status, exited(69)) << lock;
    EXPECT_THAT(ended.err, HasSubstr(std::string("', which '") + lock + "' needs\n"));
  }
  expect_nothing_ran();
  std::filesystem::create_directories(dir / "a_b:");
  std::filesystem::create_directories(dir / "fake:");
  for (const char* const lock : {"a_b://file", "./fake://file"}) {
    EXPECT_EQ(run_lockrun({lock, "true"}, start).status, exited(0)) << lock;
  }
  EXPECT_TRUE(std::filesystem::exists(dir / "fake:/file"));
}

// --- What cannot be

struct Refused {
  const char* name;
  Words options;
  const char* words;
};
const std::vector<Refused> k_refused = {
  {"no_fork", {"-F"}, "'-F' and 'fake://host/deploy' contradict each other: lockrun must stay"},
  {"unlink", {"--unlink"}, "'--unlink' and 'fake://host/deploy' contradict each other: there is no lock file"},
  {"also", {"--also", "f"}, "'--also' and 'fake://host/deploy' contradict each other: such a lock is taken by itself"},
  {"mode", {"--mode", "600"}, "'--mode' and 'fake://host/deploy' contradict each other: there is no lock file"},
  {"no_create", {"--no-create"}, "'--no-create' and 'fake://host/deploy' contradict each other: there is no lock file"},
  {"no_follow", {"--no-follow"}, "'--no-follow' and 'fake://host/deploy' contradict each other: there is no lock file"},
  {"api", {"--api", "ofd"}, "'--api' and 'fake://host/deploy' contradict each other: it is no lock of this machine"},
  {"fcntl", {"--fcntl"}, "'--fcntl' and 'fake://host/deploy' contradict each other: it is no lock of this machine"},
  {"start", {"--start", "1"},
    "'--start' and 'fake://host/deploy' contradict each other: it is no lock of this machine"},
  {"length", {"--length", "1"}, "'--length' and 'fake://host/deploy' contradict each other: it is no lock of this"},
};
class EnginesRefuse : public Engines, public ::testing::WithParamInterface<Refused> {};
TEST_P(EnginesRefuse, OptionsByName)
{
  const Finished ended = finish(leave_a_mark, GetParam().options);
  EXPECT_EQ(ended.status, exited(64));
  EXPECT_THAT(ended.err, HasSubstr(GetParam().words));
  expect_nothing_ran();
}
INSTANTIATE_TEST_SUITE_P(
  Table, EnginesRefuse, ::testing::ValuesIn(k_refused), [](const auto& row) { return row.param.name; });

TEST_F(Engines, AreNotAskedForWhatTheyCannotDo)
{
  plays("expect LOCKRUN\nsend ENGINE version=1 name=fake can=slots,sharedness\neof\n");
  const Finished ended = finish(leave_a_mark, {"-s"});
  EXPECT_EQ(ended.status, exited(64));
  EXPECT_EQ(ended.err, "lockrun: cannot lock 'fake://host/deploy': 'lockrun-engine-fake' cannot do '--shared'\n");
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "EOF"));
  expect_nothing_ran();
}

TEST_F(Engines, MustBeInstalled)
{
  url = "nowhere://host/deploy";
  const Finished ended = finish(leave_a_mark);
  EXPECT_EQ(ended.status, exited(69));
  EXPECT_THAT(ended.err, HasSubstr("; lockrun's own engines are: etcd"));
  EXPECT_THAT(ended.err, ::testing::Not(HasSubstr("-DLOCKRUN")));
  EXPECT_THAT(
    ended.err, StartsWith("lockrun: cannot find 'lockrun-engine-nowhere', which 'nowhere://host/deploy' needs\n"
                          "lockrun: hint: it is not in '" +
                          dir.path().string() + "'"));
  expect_nothing_ran();
}

TEST_F(Engines, MustBeExecutable)
{
  std::ofstream(dir / "lockrun-engine-text") << "no program\n";
  url = "text://host/deploy";
  const Finished ended = finish(leave_a_mark);
  EXPECT_EQ(ended.status, exited(77));
  EXPECT_EQ(
    ended.err, "lockrun: cannot start '" + dir.path().string() + "/lockrun-engine-text': Permission denied (EACCES)\n");
  expect_nothing_ran();
}

class EnginesRefuseATimeToLive : public Engines {
protected:
  void expect_refused(const std::string& ttl, const std::string& why)
  {
    url = "fake://host/deploy?ttl=" + ttl;
    const Finished ended = finish(leave_a_mark);
    EXPECT_EQ(ended.status, exited(64));
    EXPECT_THAT(ended.err, HasSubstr("bad value of 'ttl' in '" + url + "': " + why));
    expect_nothing_ran();
  }
};

TEST_F(EnginesRefuseATimeToLive, InWhichNoCommandCanBeEnded)
{
  expect_refused("1900ms", "it is shorter than 2s");
}

TEST_F(EnginesRefuseATimeToLive, BeyondTheirProtocol)
{
  expect_refused("400d", "it is longer than 366d");
}

TEST_F(Engines, MustLeaveTimeToBegin)
{
  plays(k_acquire + "send HELD token=7 ttl_ms=60000 deadline=@1000\n" + k_release);
  const Finished ended = finish(leave_a_mark);
  EXPECT_EQ(ended.status, exited(76));
  EXPECT_EQ(ended.err, "lockrun: 'fake://host/deploy' was not ours for long enough to start 'sh'\n");
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "RELEASE"));
  expect_nothing_ran();
}

TEST_F(Engines, AreNotGivenHalfAUrl)
{
  plays(k_held + k_release);
  for (const std::string& name : {std::string(70'000, 'x'), std::string(25'000, ' ')}) {
    url = "fake://host/" + name;
    for (const Words& arguments : {Words{url, "touch", dir / "ran"}, {"--status", url}}) {
      const Finished ended = run_lockrun(arguments, start);
      EXPECT_EQ(ended.status, exited(64));
      EXPECT_THAT(ended.err, HasSubstr(": its URL is too long for an engine\n"));
    }
  }
  expect_nothing_ran();
  EXPECT_THAT(verbs(), ::testing::Each("EOF"));
  url = "fake://host/" + std::string(60'000, 'x');
  EXPECT_EQ(finish("exit 5").status, exited(5));
}

// --- No lock

struct Failed {
  const char* name;
  std::string fail;
  Words options;
  int status;
  const char* words;
};
const std::vector<Failed> k_failed = {
  {"busy", "status=75 reason=busy holder=PID%207%20on%20web1", {"-n"}, 75,
    "lockrun: 'fake://host/deploy' is held by PID 7 on web1\n"},
  {"busy_with_status", "status=75 reason=busy", {"-n", "-E", "3", "-q"}, 3, ""},
  {"timed_out", "status=75 reason=timed_out holder=X", {"-w", "1m", "-E", "4"}, 4,
    "lockrun: gave up waiting for 'fake://host/deploy' after 1m, held by X\n"},
  {"too_many", "status=75 reason=too_many_waiters holder=X", {"-E", "5", "-q"}, 5, ""},
  {"none_may_wait", "status=75 reason=busy holder=X", {"--max-waiters", "0", "-E", "5"}, 5,
    "lockrun: 'fake://host/deploy' is held by X, and the limit of waiters (0) is reached\n"},
  {"no_wait_and_none_may", "status=75 reason=busy holder=X", {"-n", "--max-waiters", "0"}, 75,
    "lockrun: 'fake://host/deploy' is held by X\n"},
  {"unreachable", "status=69 reason=unreachable text=no%20way hint=look", {"-E", "5"}, 69,
    "lockrun: cannot lock 'fake://host/deploy': no way\nlockrun: hint: look\n"},
  {"hostile", "status=77 reason=authentication text=a%0Ab%1B[0m", {}, 77,
    "lockrun: cannot lock 'fake://host/deploy': a\\nb\\x1b[0m\n"},
  {"strange_status", "status=0 reason=odd", {}, 70, "lockrun: cannot lock 'fake://host/deploy': odd\n"},
  {"no_status", "text=x", {}, 70, "lockrun: cannot lock 'fake://host/deploy': x\n"},
};
// What an engine says before it ends arrives, even if it no longer takes what we say.
TEST_F(Engines, AreHeardOutWhenTheyEndWhileTheyAreAsked)
{
  const std::string fail = "send FAIL status=64 reason=usage text=no%20such%20parameter\n";
  const std::string end = "lockrun: cannot lock 'fake://host/deploy': no such parameter\n";
  for (const Words& options : {Words{}, {"-s"}, {"--slots", "2"}, {"--fair"}, {"--max-waiters", "1"}}) {
    for (const std::string& script : {"expect LOCKRUN\ndeafen\n" + k_greeting + fail, "deafen\n" + k_greeting + fail,
           "deafen\n" + fail, "expect LOCKRUN\n" + k_greeting + fail}) {
      plays(script);
      const Finished ended = finish(leave_a_mark, options);
      EXPECT_EQ(ended.status, exited(64));
      EXPECT_EQ(ended.err, end);
    }
  }
  plays("expect LOCKRUN\ndeafen\n" + k_greeting + fail);
  const Finished status = run_lockrun({"--status", url}, start);
  EXPECT_EQ(status.status, exited(64));
  EXPECT_THAT(status.err, HasSubstr("no such parameter"));
  expect_nothing_ran();
}

class EnginesFail : public Engines, public ::testing::WithParamInterface<Failed> {};
TEST_P(EnginesFail, WithTheirStatusAndTheirWords)
{
  plays(k_acquire + "send FAIL " + GetParam().fail + "\neof\n");
  const Finished ended = finish(leave_a_mark, GetParam().options);
  EXPECT_EQ(ended.status, exited(GetParam().status));
  EXPECT_EQ(ended.err, GetParam().words);
  expect_nothing_ran();
}
INSTANTIATE_TEST_SUITE_P(
  Table, EnginesFail, ::testing::ValuesIn(k_failed), [](const auto& row) { return row.param.name; });

struct Broken {
  const char* name;
  std::string script;
  const char* words;
};
const std::vector<Broken> k_broken = {
  {"ends_at_once", "exit 0\n", "has ended without an answer"},
  {"is_killed", "kill\n", "has ended without an answer"},
  {"ends_after_greeting", k_greet + "exit 1\n", "has ended without an answer"},
  {"ends_in_a_line", k_acquire + "raw HELD token=7 ttl_ms=6\nexit 0\n", "has ended without an answer"},
  {"ends_waiting", k_acquire + "send WAITING position=1\nexit 0\n", "has ended without an answer"},
  {"garbage", "raw \x01\xff garbage\\n\neof\n", "sends a line of which it does not begin with a verb"},
  {"too_long", "flood 70000\neof\n", "sends a line longer than 64 KiB"},
  {"no_greeting", "send HELD token=1\neof\n", "sends an unexpected 'HELD'"},
  {"other_version", "send ENGINE version=2 name=fake can=\neof\n", "sends version 2 of the protocol"},
  {"unknown_verb", k_acquire + "send HUH a=b\neof\n", "sends an unexpected 'HUH'"},
  {"bad_escape", k_acquire + "send WAITING holder=%x\neof\n", "sends a line of which it has a '%'"},
  {"renews_nothing", k_acquire + "send RENEWED deadline=@1000\neof\n", "sends an unexpected 'RENEWED'"},
  {"no_token", k_acquire + "send HELD ttl_ms=60000 deadline=@50000\neof\n", "sends a lock without a token"},
  {"strange_token", k_acquire + "send HELD token=-1 ttl_ms=60000 deadline=@50000\neof\n",
    "sends a lock without a token"},
  {"no_ttl", k_acquire + "send HELD token=1 deadline=@50000\neof\n", "sends a lock without a time to live"},
  {"endless_ttl", k_acquire + "send HELD token=1 ttl_ms=9223372036854775807 deadline=@50\neof\n",
    "sends a lock without a time to live"},
  {"no_deadline", k_acquire + "send HELD token=1 ttl_ms=60000\neof\n", "sends a deadline that cannot be"},
  {"late_deadline", k_acquire + "send HELD token=1 ttl_ms=60000 deadline=@90000\neof\n",
    "sends a deadline that cannot be"},
  {"overflowing_deadline", k_acquire + "send HELD token=1 ttl_ms=60000 deadline=9223372036854775807\neof\n",
    "sends a deadline that cannot be"},
};
class EnginesAreBroken : public Engines, public ::testing::WithParamInterface<Broken> {};
TEST_P(EnginesAreBroken, AndNothingRuns)
{
  plays(GetParam().script);
  const Finished ended = finish(leave_a_mark);
  EXPECT_EQ(ended.status, exited(70));
  EXPECT_THAT(ended.err, AllOf(StartsWith("lockrun: cannot lock 'fake://host/deploy': 'lockrun-engine-fake' "),
                           HasSubstr(GetParam().words)));
  expect_nothing_ran();
}
INSTANTIATE_TEST_SUITE_P(
  Table, EnginesAreBroken, ::testing::ValuesIn(k_broken), [](const auto& row) { return row.param.name; });

struct Silent {
  const char* name;
  std::string script;
  Words options;
};
// The time that these take is what is tested: they would never end.
const std::vector<Silent> k_silent = {
  {"from_the_beginning", "deaf\n", {}},
  {"stopped", "stop\n", {"-n"}},
  {"after_the_greeting", k_acquire + "deaf\n", {"-w", "100ms"}},
  {"without_waiting", k_acquire + "deaf\n", {"-n"}},
  {"in_a_line", k_acquire + "raw HELD token=7 \ndeaf\n", {"-w", "100ms"}},
};
class EnginesAreSilent : public Engines, public ::testing::WithParamInterface<Silent> {};
TEST_P(EnginesAreSilent, AndAreGivenUp)
{
  plays(GetParam().script);
  const Finished ended = finish(leave_a_mark, GetParam().options);
  EXPECT_EQ(ended.status, exited(74));
  EXPECT_EQ(ended.err, "lockrun: cannot lock 'fake://host/deploy': 'lockrun-engine-fake' does not answer\n");
  expect_nothing_ran();
}
INSTANTIATE_TEST_SUITE_P(
  Table, EnginesAreSilent, ::testing::ValuesIn(k_silent), [](const auto& row) { return row.param.name; });

TEST_F(Engines, MayBreakTheirLinesAnywhere)
{
  plays(k_greet +
        "expect ACQUIRE\nraw WAI\npass 5\nraw TING position=1 holder=me\\nHELD token=7 ttl_ms=60000 dead\npass 5\n"
        "raw line=@50000\\nREN\npass 5\nraw EWED deadline=@55000\\n\n" +
        k_release);
  EXPECT_EQ(finish("exit 5").status, exited(5));
}

// --- Waiting

TEST_F(Engines, AreGivenUpWhenTheTimeIsUp)
{
  plays(k_acquire + "send WAITING position=1 holder=PID%207%20on%20web1\neof\n");
  const Finished ended = finish(leave_a_mark, {"-w", "100ms"});
  EXPECT_EQ(ended.status, exited(75));
  EXPECT_EQ(ended.err, "lockrun: gave up waiting for 'fake://host/deploy' after 100ms, held by PID 7 on web1\n");
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "ABANDON", "EOF"));
  expect_nothing_ran();
}

TEST_F(Engines, SayWhomWeWaitFor)
{
  plays(
    k_acquire +
    "send WAITING position=2 holder=PID%207%20on%20web1\nawait 7\nsend HELD token=7 ttl_ms=60000 deadline=@50000\n" +
    k_release);
  start.err = k_pipe;
  Process lockrun = run({}, {"sh", "-c", "exit 5"});
  EXPECT_EQ(lockrun.err_line(), "lockrun: waiting for 'fake://host/deploy', held by PID 7 on web1, we are number 2");
  cue.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(5));
}

TEST_F(Engines, AreLeftWhenASignalEndsTheWait)
{
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    std::filesystem::remove(log);
    plays(k_acquire + "send WAITING position=1\ntell 9\neof\n");
    Process lockrun = run({}, {"sh", "-c", leave_a_mark});
    ASSERT_TRUE(notice.await());
    lockrun.signal(signal);
    EXPECT_EQ(lockrun.wait().status, killed(signal));
    EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "ABANDON", "EOF"));
    expect_nothing_ran();
  }
}

TEST_F(Engines, AreLeftWhenASignalComesBeforeTheyGreet)
{
  for (const Words& options : {Words{}, {"-n"}, {"-w", "1m"}, {"--max-waiters", "1"}}) {
    plays("tell 9\ndeaf\n");
    Process lockrun = run(options, {"sh", "-c", leave_a_mark});
    ASSERT_TRUE(notice.await());
    lockrun.signal(SIGTERM);
    EXPECT_EQ(lockrun.wait().status, killed(SIGTERM));
  }
  expect_nothing_ran();
}

TEST_F(Engines, AreNoMatterOfWhatWeIgnore)
{
  plays(k_acquire + "send WAITING position=1\ntell 9\nawait 7\nsend HELD token=7 ttl_ms=60000 deadline=@50000\n" +
        k_release);
  start.before_exec = {hostile::ignore(SIGHUP), hostile::ignore(SIGCHLD), hostile::block(SIGALRM)};
  Process lockrun = run({}, {"grep", "^SigIgn", "/proc/self/status"});
  ASSERT_TRUE(notice.await());
  lockrun.signal(SIGHUP);
  cue.close_write();
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_THAT(ended.out, HasSubstr("0000000000010001")); // SIGHUP and SIGCHLD, as they were
}

TEST_F(Engines, LeaveAQueueWhenWeAreKilled)
{
  plays(k_acquire + "send WAITING position=1\ntell 9\neof\n");
  Process lockrun = run({}, {"sh", "-c", leave_a_mark});
  ASSERT_TRUE(notice.await());
  lockrun.signal(SIGKILL);
  EXPECT_EQ(lockrun.wait().status, killed(SIGKILL));
  EXPECT_TRUE(eventually([&] { return said().ends_with("EOF\n"); }));
  expect_nothing_ran();
}

// --- Under a lock of an ancestor

std::string host()
{
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

std::string first_line(const std::string& path)
{
  const std::string text = read_file(path);
  return text.substr(0, text.find('\n'));
}

// When it started, in clock ticks: field 22 of proc(5).
std::string started(pid_t pid)
{
  const std::string line = read_file("/proc/" + std::to_string(pid) + "/stat");
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) { fields >> field; }
  return field;
}

// Of its pid namespace.
std::string number_of_namespace(const std::string& process)
{
  struct ::stat status {};
  EXPECT_EQ(::stat(("/proc/" + process + "/ns/pid").c_str(), &status), 0);
  return std::to_string(status.st_ino);
}

// What tells a process from all others that ever have its number.
std::string instance_of(pid_t pid)
{
  return first_line("/proc/sys/kernel/random/boot_id") + "/" + number_of_namespace(std::to_string(pid)) + "/" +
         started(pid);
}

// This test as a holder.
std::string us()
{
  return "holder_pid=" + std::to_string(::getpid()) + " holder_instance=" + instance_of(::getpid());
}

TEST_F(Engines, AreNotWaitedForWhenAnAncestorHoldsTheirLock)
{
  plays(k_acquire + "send WAITING position=1 holder=us holder_mode=exclusive " + us() + "\neof\n");
  const Finished ended = finish(leave_a_mark);
  EXPECT_EQ(ended.status, exited(75));
  EXPECT_THAT(
    ended.err, AllOf(HasSubstr("a parent process of this lockrun"), HasSubstr("which probably waits for it")));
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "ABANDON", "EOF"));
  expect_nothing_ran();

  EXPECT_EQ(finish("exit 5", {"--nested", "run"}).status, exited(5));
  EXPECT_EQ(finish(leave_a_mark, {"--nested", "wait", "-w", "50ms"}).status, exited(75));
  expect_nothing_ran();
}

// Whom they name is an ancestor of ours only if it is the same process, not just one of the same number.
TEST_F(Engines, AreWaitedForWhenTheHolderOnlyHasAnAncestorsNumber)
{
  const std::string boot = first_line("/proc/sys/kernel/random/boot_id");
  const std::string numbers = number_of_namespace("self");
  const std::string begun = started(::getpid());
  ASSERT_EQ("holder_instance=" + boot + "/" + numbers + "/" + begun, us().substr(us().find(' ') + 1));
  for (const std::string& instance :
    Words{"", "holder_instance=", "holder_instance=" + begun, "holder_instance=x" + boot + "/" + numbers + "/" + begun,
      "holder_instance=" + boot + "/1" + numbers + "/" + begun,
      "holder_instance=" + boot + "/" + numbers + "/" + begun + "1"}) {
    plays(k_acquire + "send WAITING position=1 holder_mode=exclusive holder_host=" + host() +
          " holder_pid=" + std::to_string(::getpid()) + " " + instance + "\neof\n");
    EXPECT_THAT(finish(leave_a_mark, {"-w", "50ms", "--reentrant"}).err, HasSubstr("gave up waiting")) << instance;
    expect_nothing_ran();
  }
}

TEST_F(Engines, HearWhichProcessOfAllAsks)
{
  plays(k_held + k_release);
  start.out = k_pipe;
  Process lockrun = run_script(k_stay);
  lockrun.out_line();
  EXPECT_THAT(said(), HasSubstr(" instance=" + instance_of(lockrun.pid()) + "\n"));
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(0));
}

TEST_F(Engines, TellAPidNamespaceFromOthers)
{
  plays(k_held + k_release);
  std::vector<std::string> argv{"unshare", "-pf", "--mount-proc"};
  for (const std::string& word : lockrun_argv({url, "true"})) { argv.push_back(word); }
  const Finished ended = run_program(argv, start);
  if (ended.err.find("unshare: ") == 0) { GTEST_SKIP() << ended.err; }
  EXPECT_EQ(ended.status, exited(0));
  const std::string boot = first_line("/proc/sys/kernel/random/boot_id");
  // The first process keeps strangers apart, the second one carries out the call.
  EXPECT_THAT(said(), AllOf(HasSubstr(" pid=2 "), HasSubstr(" instance=" + boot + "/"),
                        Not(HasSubstr("/" + number_of_namespace("self") + "/"))));
}

// With --nested run, under a lock of an ancestor's.
struct Nesting {
  const char* name;
  std::string holder;
  Words options;
  int status; // 5: it ran
};
const std::vector<Nesting> k_nestings = {
  {"exclusive_in_exclusive", "holder_mode=exclusive", {}, 5},
  {"shared_in_exclusive", "holder_mode=exclusive", {"-s"}, 5},
  {"slots_in_exclusive", "holder_mode=exclusive", {"-j", "3"}, 5},
  {"exclusive_in_shared", "holder_mode=shared", {}, 75},
  {"shared_in_shared", "holder_mode=shared", {"-s"}, 5},
  {"slots_in_shared", "holder_mode=shared", {"-j", "3"}, 75},
  {"exclusive_in_a_slot", "holder_mode=exclusive holder_slot=0", {}, 75},
  {"shared_in_a_slot", "holder_mode=exclusive holder_slot=0", {"-s"}, 5},
  {"one_slot_in_that", "holder_mode=exclusive holder_slot=0", {"-j", "1"}, 5},
  {"one_slot_in_another", "holder_mode=exclusive holder_slot=1", {"-j", "1"}, 75},
  {"exclusive_in_who_knows_what", "holder=us", {}, 75},
};
class EnginesAreNested : public Engines, public ::testing::WithParamInterface<Nesting> {};
TEST_P(EnginesAreNested, AndRunOnlyWhatTheAncestorsLockCovers)
{
  const std::string waiting = "send WAITING position=1 " + us() + " " + GetParam().holder + "\n";
  const std::string others = "send WAITING position=1 holder=others holder_mode=shared holder_pid=1\n";
  Words options = GetParam().options;
  options.emplace_back("--reentrant");
  plays(k_acquire + waiting + others + "eof\n");
  EXPECT_EQ(finish("exit 5", options).status, exited(GetParam().status));

  options.emplace_back("-n");
  plays(k_acquire + waiting + others + "send FAIL status=75 reason=busy text=x holder=others\neof\n");
  EXPECT_EQ(finish("exit 5", options).status, exited(GetParam().status));
}
INSTANTIATE_TEST_SUITE_P(
  Table, EnginesAreNested, ::testing::ValuesIn(k_nestings), [](const auto& row) { return row.param.name; });

TEST_F(Engines, TellACommandUnderAnAncestorsLockWhichThatIs)
{
  plays(k_acquire + "send WAITING position=1 holder_mode=exclusive " + us() + "\neof\n");
  const Finished ended = finish("echo $LOCKRUN_LOCK; test $LOCKRUN_PID = $PPID", {"--nested", "run"});
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_EQ(ended.out, "fake://host/deploy\n");
}

TEST_F(Engines, MayHaveAnotherSlotThanAnAncestors)
{
  plays(k_acquire + "send WAITING position=1 holder_mode=exclusive holder_slot=0 " + us() + "\neof\n");
  EXPECT_THAT(finish(leave_a_mark, {"-j", "2", "-w", "50ms"}).err, HasSubstr("gave up waiting"));
  EXPECT_THAT(finish(leave_a_mark, {"-j", "1"}).err, HasSubstr("which probably waits for it"));
}

TEST_F(Engines, AreBusyAsEverWithoutWaiting)
{
  plays(k_acquire + "send WAITING position=1 holder_mode=exclusive " + us() +
        "\nsend FAIL status=75 reason=busy text=x holder=us\neof\n");
  const Finished ended = finish(leave_a_mark, {"-n", "-E", "9", "--events", dir / "events"});
  EXPECT_EQ(ended.status, exited(9));
  EXPECT_THAT(read_file(dir / "events"), Not(HasSubstr("\"event\":\"waiting\"")));
  expect_nothing_ran();
}

} // namespace
} // namespace lockrun::testing
