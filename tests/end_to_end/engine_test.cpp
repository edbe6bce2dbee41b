// Locks beyond this machine, with an engine that does what a script says (support/programs/fake_engine.cpp). Moments
// are of the elapsed clock; nothing is said about how soon something happens, except where it has to happen before the
// lock is somebody else's.

#include "support/control_group.hpp"
#include "support/eventually.hpp"
#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"
#include "support/terminal.hpp"

#include <csignal>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

long long elapsed_ms()
{
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

bool lives(pid_t pid)
{
  const std::string status = read_file("/proc/" + std::to_string(pid) + "/stat");
  return !status.empty() && status.find(") Z ") == std::string::npos;
}

bool has_stopped(pid_t pid)
{
  return read_file("/proc/" + std::to_string(pid) + "/stat").find(") T ") != std::string::npos;
}

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

// The child of `parent` whose name begins with this; 0 if there is none.
pid_t child_called(pid_t parent, const std::string& name)
{
  const std::string base = "/proc/" + std::to_string(parent);
  std::istringstream children(read_file(base + "/task/" + std::to_string(parent) + "/children"));
  for (pid_t child = 0; children >> child;) {
    if (read_file("/proc/" + std::to_string(child) + "/comm").starts_with(name)) { return child; }
  }
  return 0;
}

const std::string k_greeting = "send ENGINE version=1 name=fake can=shared,slots,max_waiters,status,fair\n";
const std::string k_greet = "expect LOCKRUN version=1\n" + k_greeting;
const std::string k_acquire = k_greet + "expect ACQUIRE\n";
const std::string k_release = "expect RELEASE\nsend RELEASED\n";

// The lock for `ttl` ms from now on.
std::string held(int ttl, const std::string& more = "")
{
  return k_acquire + "send HELD token=7 ttl_ms=" + std::to_string(ttl) + " deadline=@" + std::to_string(ttl - 10) +
         (more.empty() ? "" : " " + more) + "\n";
}
// Long enough for every test that does not wait for the end of it.
const std::string k_held = held(60'000);
const std::string k_status_of_none = k_greet + "expect STATUS\nsend END\neof\n";

class Engines : public ::testing::Test {
protected:
  Engines()
  {
    std::filesystem::create_symlink(program("fake_engine"), dir / "lockrun-engine-fake");
    start.environment = {{"LOCKRUN_ENGINE_PATH", dir.path().string()}, {"FAKE_ENGINE_LOG", log}};
    start.descriptors = {{7, cue.read_end}, {8, leash.read_end}, {9, notice.write_end()}};
  }
  void plays(const std::string& script) { start.environment["FAKE_ENGINE"] = script; }
  Process run(const Words& options, const Words& command)
  {
    Words arguments = options;
    arguments.push_back(url);
    arguments.insert(arguments.end(), command.begin(), command.end());
    return Process(lockrun_argv(arguments), start);
  }
  Process run_script(const std::string& script, const Words& options = {})
  {
    return run(options, {"sh", "-c", script});
  }
  Finished finish(const std::string& script, const Words& options = {}) { return run_script(script, options).wait(); }

  // What lockrun said to the engine, verbs only.
  std::vector<std::string> verbs() const
  {
    std::vector<std::string> found;
    std::ifstream lines(log);
    for (std::string line; std::getline(lines, line);) { found.push_back(line.substr(0, line.find(' '))); }
    return found;
  }
  std::string said() const { return read_file(log); }

  static pid_t twin_of(const Process& lockrun) { return there(child_called(lockrun.pid(), "lease-guardian")); }
  static pid_t engine_of(const Process& lockrun) { return there(child_called(lockrun.pid(), "lockrun-engine")); }
  // Process 0 is everybody in our own process group for kill(2).
  static pid_t there(pid_t pid)
  {
    if (pid <= 0) { throw std::runtime_error("there is no such process"); }
    return pid;
  }

  // Nobody has standard output open any more: neither lockrun nor its twin nor anything that the command started.
  static void expect_all_gone(Process& lockrun)
  {
    while (lockrun.out_line()) {}
  }
  void expect_nothing_ran() const { EXPECT_FALSE(std::filesystem::exists(dir / "ran")); }

  TempDir dir;
  std::string log = dir / "log";
  std::string url = "fake://host/deploy";
  std::string leave_a_mark = "touch " + (dir / "ran").string();
  Pipe leash;    // 8: the command stays until this is closed
  Pipe cue;      // 7: the engine goes on when this is closed
  Notice notice; // 9: the engine has come so far
  Start start;
};

const std::string k_stay = "echo $$; exec cat <&8";
const std::string k_stubborn = "trap '' TERM; echo $$; cat <&8; cat <&8; cat <&8";

// --- An orderly life

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

// --- Passwords

TEST_F(Engines, AreTheOnlyOnesWhoHearAPassword)
{
  plays(k_held + "send TROUBLE text=alas\nsend TROUBLE text=oh\n" + k_release);
  url = "fake://user:s3cret@host/deploy?sslpassword=s3cret&password-file=/etc/pw";
  start.out = k_pipe;
  Process lockrun =
    run_script("env; tr '\\0' ' ' </proc/$PPID/cmdline; echo; tr '\\0' ' ' </proc/$LOCKRUN_PID/cmdline; echo; "
               "echo over; exec cat <&8");
  std::string all;
  for (auto line = lockrun.out_line(); line && *line != "over"; line = lockrun.out_line()) { all += *line + "\n"; }
  EXPECT_THAT(read_file("/proc/" + std::to_string(engine_of(lockrun)) + "/cmdline"), Not(HasSubstr("s3cret")));
  EXPECT_TRUE(eventually([&] { return lockrun.err_so_far().find("alas") != std::string::npos; }));
  lockrun.signal(SIGTERM);
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(128 + SIGTERM));
  EXPECT_THAT(all, Not(HasSubstr("s3cret")));
  EXPECT_THAT(all, HasSubstr("LOCKRUN_LOCK=fake://user:******@host/deploy?sslpassword=******&password-file=/etc/pw\n"));
  EXPECT_THAT(ended.err, AllOf(HasSubstr("alas"), Not(HasSubstr("s3cret"))));
  EXPECT_THAT(said(), HasSubstr("url=fake://user:s3cret@host/deploy?sslpassword=s3cret&password-file=/etc/pw"));
}

TEST_F(Engines, DoNotHearThePasswordsOfTheCommandNorDoesAnybodyElse)
{
  plays(k_held + k_release);
  const std::string show = "echo $0; tr '\\0' ' ' </proc/$PPID/cmdline; echo; tr '\\0' ' ' </proc/$LOCKRUN_PID/cmdline";
  const Finished ended = run({"--events", dir / "events"}, {"sh", "-c", show, "fake://bob:1nner@host/x"}).wait();
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_THAT(ended.out, StartsWith("fake://bob:1nner@host/x\n"));
  EXPECT_THAT(
    ended.out.substr(ended.out.find('\n')), AllOf(HasSubstr("fake://bob:*****@host/x"), Not(HasSubstr("1nner"))));
  EXPECT_THAT(said(), AllOf(HasSubstr("fake://bob:*****@host/x"), Not(HasSubstr("1nner"))));
  EXPECT_THAT(read_file(dir / "events"), AllOf(HasSubstr("fake://bob:*****@host/x"), Not(HasSubstr("1nner"))));
}

// Locks of this machine, too.
TEST_F(Engines, AreNotNeededToHideThePasswordsOfAHoldersCommand)
{
  start.out = k_pipe;
  const std::string file = dir / "file";
  Process holder(
    lockrun_argv({"-F", file, "sh", "-c", "echo; cat <&8; true", "etcd://bob:1nner@host/x", std::string(300, 'x')}),
    start);
  holder.out_line();
  start.out = k_captured;
  const std::string events = dir / "events";
  for (const Words& words :
    {Words{"-n", "--events", events, file, "true"}, {"--status", file}, {"--status", "--json", file}}) {
    const Finished ended = run_lockrun(words, start);
    EXPECT_EQ(ended.status, exited(75));
    const std::string shown = ended.out + ended.err + read_file(events);
    EXPECT_THAT(shown, AllOf(HasSubstr("etcd://bob:*****@host/x"), Not(HasSubstr("1nner"))));
  }
  leash.close_write();
}

TEST_F(Engines, AreTheOnlyOnesWhoHearWhatMayBeAPassword)
{
  const std::string script = k_held + "send TROUBLE text=cannot%20reach%20fake://ann:s3cret/x\n" + k_release;
  for (const char* const lock : {"fake://host/deploy?auth=s3cret", "fake://ann:s3cret/deploy", "fake://ann:s3cret",
         "FAKE://ann:s3cret@host/deploy", "fake://host/deploy?ttl=9s&s3cret", "fake://ann:a/s3cret/deploy"}) {
    plays(script);
    url = lock;
    const Finished ended = run({"-v", "--events", dir / "events"},
      {"sh", "-c", "env; tr '\\0' ' ' </proc/$PPID/cmdline; tr '\\0' ' ' </proc/$LOCKRUN_PID/cmdline"})
                             .wait();
    EXPECT_EQ(ended.status, exited(0));
    EXPECT_THAT(said(), HasSubstr(std::string("url=") + lock + "\n"));
    std::istringstream lines(ended.out);
    for (std::string line; std::getline(lines, line);) {
      if (line.find("send TROUBLE") == std::string::npos) { // that is the script, in the environment
        EXPECT_THAT(line, Not(HasSubstr("s3cret"))) << lock;
      }
    }
    EXPECT_THAT(ended.err, AllOf(HasSubstr("got "), Not(HasSubstr("s3cret"))));
    EXPECT_THAT(read_file(dir / "events"), Not(HasSubstr("s3cret")));
    plays(k_status_of_none);
    const Finished status = run_lockrun({"--status", lock}, start);
    EXPECT_EQ(status.status, exited(0));
    EXPECT_THAT(status.out + status.err, Not(HasSubstr("s3cret")));
  }
}

TEST_F(Engines, HaveNoPasswordInUsageErrors)
{
  const std::string lock = "fake://user:s3cret@host/deploy";
  for (const Words& arguments : {Words{lock}, {"-w", lock, "true"}, {"--fd", lock, "true"}, {"-u", lock},
         {"-F", lock, "true"}, {lock + "?ttl=s3", "true"}, {"--also", lock, "f", "true"}, {"-E", lock, "true"},
         {"-c", "true", "f", lock}, {lock + "?publish=x", "true"}}) {
    const Finished ended = run_lockrun(arguments, start);
    EXPECT_EQ(ended.status, exited(64));
    EXPECT_THAT(ended.err, AllOf(HasSubstr("user:******@"), Not(HasSubstr("s3cret@"))));
  }
  const std::string odd = "fake://user:a s3cret@host/deploy"; // no end of a word
  for (const Words& arguments :
    {Words{odd}, {"-w", odd, "true"}, {"-c", "true", "f", odd}, {"f", "-c", "true", odd}, {"--probe", "f", odd},
      {"--probe", odd}, {"--status", "-c", odd, "f"}, {"--status", "f", "--", odd}, {"--also", odd, "f", "true"},
      {"-u", "9", odd}, {"-u", odd}, {"--" + odd, "f", "true"}, {"--nb=" + odd, "f"}}) {
    const Finished ended = run_lockrun(arguments, start);
    EXPECT_EQ(ended.status, exited(64));
    EXPECT_THAT(ended.err, Not(HasSubstr("s3cret"))) << ::testing::PrintToString(arguments);
  }
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

TEST_F(Engines, MustLeaveTimeToEndACommandIn)
{
  url = "fake://host/deploy?ttl=1900ms";
  const Finished ended = finish(leave_a_mark);
  EXPECT_EQ(ended.status, exited(64));
  EXPECT_THAT(ended.err, HasSubstr("bad value of 'ttl' in 'fake://host/deploy?ttl=1900ms': it is shorter than 2s"));
  expect_nothing_ran();
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

TEST_F(Engines, AreToldWhenTheCommandCannotBeRun)
{
  plays(k_held + k_release);
  const Finished ended = run({}, {"./nothing"}).wait();
  EXPECT_EQ(ended.status, exited(127));
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "RELEASE"));
}

TEST_F(Engines, AreNotAskedForATimeToLiveBeyondTheirProtocol)
{
  url = "fake://host/deploy?ttl=400d";
  const Finished ended = finish(leave_a_mark);
  EXPECT_EQ(ended.status, exited(64));
  EXPECT_THAT(ended.err, HasSubstr("bad value of 'ttl' in 'fake://host/deploy?ttl=400d': it is longer than 366d"));
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

TEST_F(Engines, MayHaveATokenThatIsText)
{
  plays(k_acquire + "send HELD token=16/B374D848 epoch=7-a ttl_ms=60000 deadline=@50000\n" + k_release);
  const Finished ended =
    finish("echo $LOCKRUN_TOKEN,$LOCKRUN_TOKEN_1,$LOCKRUN_TOKEN_EPOCH", {"--events", dir / "events"});
  EXPECT_EQ(ended.out, "16/B374D848,16/B374D848,7-a\n");
  EXPECT_THAT(read_file(dir / "events"), HasSubstr("\"token\":\"16/B374D848\""));
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

// --- The lock is lost

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

TEST_F(LastGrace, EndsWithinTheMarginWhenTheServerHasGivenTheLockAway)
{
  EXPECT_LT(measure("send LOST reason=x\neof\n"), k_margin);
  EXPECT_LT(measure("send LOST reason=x deadline=@-5000\neof\n"), k_margin);
  EXPECT_LT(measure("send LOST reason=x deadline=@900000000\neof\n"), k_margin) << "which cannot be";
  EXPECT_LT(measure("send FAIL status=70 reason=x text=y\neof\n"), k_margin);
  EXPECT_LT(measure("send LOST reason=x\neof\n", {"--signal", "TERM"}), k_margin);
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

// --- Killed

class Killed : public Engines {
protected:
  Killed()
  {
    plays(k_held + k_release);
    start.out = k_pipe;
  }
  // A command that ignores TERM, and a daemon that does.
  Process begin()
  {
    Process lockrun = run_script(program("detach") + " " + program("signals") + " 8; " + k_stubborn);
    lockrun.out_line();
    lockrun.out_line();
    return lockrun;
  }
};

TEST_F(Killed, GuardsLeaveATwinThatEndsTheTreeAtOnce)
{
  Process lockrun = begin();
  const pid_t twin = twin_of(lockrun);
  ASSERT_GT(twin, 0);
  lockrun.signal(SIGKILL);
  expect_all_gone(lockrun); // the twin included
  EXPECT_EQ(lockrun.wait().status, killed(SIGKILL));
  EXPECT_TRUE(eventually([&] { return said().ends_with("RELEASE\n"); }));
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "RELEASE"));
}

// What the engine has said since, up to the middle of a line, is nothing that the twin has to understand.
TEST_F(Killed, GuardsLeaveATwinThatGivesTheLockBackWhateverTheyHaveHeard)
{
  plays(k_held + "send TROUBLE text=x\nraw RENEWED dead\ntell 9\n" + k_release);
  Process lockrun = run_script(k_stay);
  lockrun.out_line();
  ASSERT_TRUE(notice.await());
  lockrun.signal(SIGKILL);
  expect_all_gone(lockrun);
  EXPECT_TRUE(eventually([&] { return said().ends_with("RELEASE\n"); }));
}

TEST_F(Killed, GuardsOfAStoppedTwinAreFollowedByItWhenItGoesOn)
{
  Process lockrun = run_script(k_stay);
  lockrun.out_line();
  const pid_t twin = twin_of(lockrun);
  ASSERT_EQ(::kill(twin, SIGSTOP), 0);
  ASSERT_TRUE(eventually([&] { return has_stopped(twin); }));
  lockrun.signal(SIGKILL);
  EXPECT_EQ(lockrun.wait().status, killed(SIGKILL));
  ASSERT_EQ(::kill(twin, SIGCONT), 0);
  expect_all_gone(lockrun);
  EXPECT_TRUE(eventually([&] { return said().ends_with("RELEASE\n"); }));
}

// Without a shell as its parent the process group is an orphan, and stays as much of one as it was: if the guardian's
// session were the group's, the kernel would hang up on what has stopped in it when the command ends.
TEST_F(Killed, NothingIsWhatHasStoppedInTheGroupOfACommandThatEnds)
{
  start.before_exec = {hostile::new_session()};
  Process lockrun = run_script(program("signals") + " 8 & kill -STOP $!; echo $!; cat <&7");
  std::string line = lockrun.out_line().value();
  if (line.starts_with("ready")) { line = lockrun.out_line().value(); }
  const pid_t stopped = std::stoi(line);
  ASSERT_TRUE(eventually([&] { return has_stopped(stopped); }));
  EXPECT_EQ(::getpgid(stopped), lockrun.pid());
  cue.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(0));
  EXPECT_TRUE(has_stopped(stopped));
  ASSERT_EQ(::kill(stopped, SIGCONT), 0);
  leash.close_write();
  while (auto said = lockrun.out_line()) { EXPECT_THAT(*said, Not(HasSubstr("HUP"))); }
}

TEST_F(Killed, SessionsLeaveATwinThatEndsTheRest)
{
  start.before_exec = {hostile::new_session()};
  Process lockrun = begin();
  const pid_t twin = twin_of(lockrun);
  EXPECT_EQ(::getsid(twin), twin);
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) { // as `pkill -9 -s SID`
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid > 0 && ::getsid(pid) == lockrun.pid()) { EXPECT_EQ(::kill(pid, SIGKILL), 0); }
  }
  EXPECT_EQ(lockrun.wait().status, killed(SIGKILL));
  expect_all_gone(lockrun);
  EXPECT_TRUE(eventually([&] { return said().ends_with("RELEASE\n"); }));
}

// As `kill -9 %1` does: the guard and the command have the job's process group, a daemon has another one.
TEST_F(Killed, ProcessGroupsLeaveATwinThatEndsTheRest)
{
  start.before_exec = {hostile::new_session()};
  for (int i = 0; i < 5; ++i) {
    std::filesystem::remove(log);
    Process lockrun = begin();
    ASSERT_EQ(::kill(-lockrun.pid(), SIGKILL), 0);
    EXPECT_EQ(lockrun.wait().status, killed(SIGKILL));
    expect_all_gone(lockrun);
    EXPECT_TRUE(eventually([&] { return said().ends_with("RELEASE\n"); }));
  }
}

// As `pkill -9 lockrun` and `pkill -9 -f lockrun` do, but no process of other tests.
TEST_F(Killed, NamesLeaveATwinThatEndsTheTree)
{
  for (const std::string where : {"/comm", "/cmdline"}) {
    const auto is_called = [&](pid_t pid) {
      return read_file("/proc/" + std::to_string(pid) + where).find("lockrun") != std::string::npos;
    };
    std::filesystem::remove(log);
    Process lockrun = begin();
    const pid_t engine = engine_of(lockrun);
    std::vector<pid_t> found;
    for (const pid_t pid : {lockrun.pid(), engine, twin_of(lockrun)}) {
      ASSERT_GT(pid, 0);
      if (is_called(pid)) { found.push_back(pid); }
    }
    EXPECT_THAT(found, ElementsAre(lockrun.pid(), engine));
    for (const pid_t pid : found) { ASSERT_EQ(::kill(pid, SIGKILL), 0); }
    EXPECT_EQ(lockrun.wait().status, killed(SIGKILL));
    expect_all_gone(lockrun);
  }
}

TEST_F(Killed, GuardAndTwinTakeTheCommandWithThem)
{
  Process lockrun = run_script(k_stay);
  const pid_t command = std::stoi(lockrun.out_line().value());
  const pid_t twin = twin_of(lockrun);
  ASSERT_EQ(::kill(lockrun.pid(), SIGSTOP), 0);
  ASSERT_TRUE(eventually([&] { return has_stopped(lockrun.pid()); }));
  ASSERT_EQ(::kill(twin, SIGKILL), 0);
  EXPECT_TRUE(eventually([&] { return !lives(command); }));
  ASSERT_EQ(::kill(lockrun.pid(), SIGKILL), 0);
  expect_all_gone(lockrun);
}

// --- In a control group

// The control groups that lockrun has made below ours, in the unified hierarchy.
std::vector<std::string> made_groups(const std::string& ours)
{
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(ours)) {
    if (entry.path().filename().string().starts_with("lockrun-tree-")) { found.push_back(entry.path()); }
  }
  return found;
}

// Below a control group of the test's own.
class InAControlGroup : public Killed {
protected:
  void SetUp() override
  {
    group = make_control_group();
    if (group.empty()) { GTEST_SKIP() << "no control group can be made"; }
    start.before_exec = {[file = group + "/cgroup.procs"] {
      const int fd = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
      (void)!::write(fd, "0", 1);
    }};
  }
  void TearDown() override
  {
    if (!group.empty()) {
      EXPECT_TRUE(eventually([&] { return ::rmdir(group.c_str()) == 0 || errno == ENOENT; }));
    }
  }
  std::string group_of(pid_t pid) const
  {
    const std::string text = read_file("/proc/" + std::to_string(pid) + "/cgroup");
    const auto line = text.find("0::");
    return text.substr(line, text.find('\n', line) - line);
  }
  std::string group;
};

TEST_F(InAControlGroup, TheTreeRunsAndNothingIsLeft)
{
  Process lockrun = run_script(k_stay);
  const pid_t command = std::stoi(lockrun.out_line().value());
  EXPECT_THAT(group_of(command), StartsWith(group_of(lockrun.pid()) + "/lockrun-tree-"));
  EXPECT_EQ(group_of(twin_of(lockrun)), group_of(lockrun.pid()));
  EXPECT_EQ(made_groups(group).size(), 1U);
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(0));
  EXPECT_THAT(made_groups(group), IsEmpty());
}

TEST_F(InAControlGroup, NothingIsLeftOfWhatWasKilled)
{
  for (const bool kills_twin : {true, false}) {
    Process lockrun = begin();
    ASSERT_EQ(::kill(kills_twin ? twin_of(lockrun) : lockrun.pid(), SIGKILL), 0);
    lockrun.wait();
    expect_all_gone(lockrun);
    EXPECT_THAT(made_groups(group), IsEmpty());
  }
}

TEST_F(InAControlGroup, DaemonsThatAreLeftAloneGoBack)
{
  Process lockrun = run_script(program("detach") + " sh -c '" + k_stay + "'");
  const pid_t daemon = std::stoi(lockrun.out_line().value());
  EXPECT_EQ(lockrun.wait().status, exited(0));
  EXPECT_TRUE(lives(daemon));
  EXPECT_THAT(made_groups(group), IsEmpty());
  EXPECT_THAT(group_of(daemon), Not(HasSubstr("lockrun")));
  leash.close_write();
  expect_all_gone(lockrun);
}

// All three are killed, and nobody is there to tidy up.
TEST_F(InAControlGroup, TheNextOneRemovesWhatIsLeft)
{
  std::filesystem::create_directory(group + "/lockrun-tree-1");
  std::filesystem::create_directory(group + "/lockrun-tree-1/lockrun-tree-2");
  Process lockrun = run_script(k_stay);
  lockrun.out_line();
  EXPECT_EQ(made_groups(group).size(), 1U);
  // Not that of another one that lives.
  Process other = run_script(k_stay);
  other.out_line();
  EXPECT_EQ(made_groups(group).size(), 2U);
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(0));
  EXPECT_EQ(other.wait().status, exited(0));
  EXPECT_THAT(made_groups(group), IsEmpty());
}

// A sweep does not keep up with them.
TEST_F(InAControlGroup, ManyChainsOfForksEndBeforeTheLockDoes)
{
  Process lockrun = run_script("i=0; while [ $((i += 1)) -le 30 ]; do " + program("comet") + " 8 & done; " + k_stay);
  for (int i = 0; i < 31; ++i) { lockrun.out_line(); }
  lockrun.signal(SIGKILL);
  EXPECT_TRUE(eventually([&] { return said().ends_with("RELEASE\n"); }));
  for (const std::string& made : made_groups(group)) { EXPECT_EQ(read_file(made + "/cgroup.procs"), ""); }
  expect_all_gone(lockrun);
  EXPECT_THAT(made_groups(group), IsEmpty());
}

// What signals all processes of a service means the command as well, and reaches it.
TEST_F(InAControlGroup, TheCommandGetsASignalToTheWholeGroupOnce)
{
  start.before_exec.push_back(hostile::new_session());
  Process lockrun = run({}, {program("signals"), "8"});
  const pid_t command = std::stoi(lockrun.out_line().value().substr(std::string("ready ").size()));
  ASSERT_TRUE(eventually([&] { return child_called(twin_of(lockrun), "signal-witness") != 0; }));
  const pid_t witness = child_called(twin_of(lockrun), "signal-witness");
  for (const pid_t pid : {lockrun.pid(), twin_of(lockrun), witness, command}) { ASSERT_EQ(::kill(pid, SIGUSR1), 0); }
  EXPECT_EQ(lockrun.out_line(), "USR1");
  lockrun.signal(SIGWINCH);
  EXPECT_EQ(lockrun.out_line(), "WINCH");
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(0));
}

// --- At a terminal

// It waits, or has stopped, and no signal waits for it.
bool is_idle(pid_t pid)
{
  return is_asleep(pid) && word_of_status(pid, "ShdPnd:") == "0000000000000000";
}

bool blocks_signal(pid_t pid, int signal)
{
  return (std::stoull(word_of_status(pid, "SigBlk:"), nullptr, 16) >> (signal - 1) & 1) != 0;
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
    ASSERT_TRUE(eventually([&] { return child_called(twin, "signal-witness") != 0; }));
    // Until the guard learns that the command has started, Ctrl-Z stops it by itself, not after the command.
    ASSERT_TRUE(eventually([&] { return blocks_signal(guard, SIGTSTP); }));
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

// --- Killed, as above

TEST_F(Killed, TwinsLeaveAGuardThatEndsTheTreeAtOnce)
{
  Process lockrun = begin();
  ASSERT_EQ(::kill(twin_of(lockrun), SIGKILL), 0);
  EXPECT_EQ(lockrun.wait().status, exited(128 + SIGKILL));
  expect_all_gone(lockrun);
  EXPECT_THAT(verbs(), ElementsAre("LOCKRUN", "ACQUIRE", "RELEASE"));
}

TEST_F(Killed, TwinsWithACometInTheirTreeDoToo)
{
  Process lockrun = run({"--hold", "tree"}, {program("comet"), "8"});
  EXPECT_EQ(lockrun.out_line(), "flying");
  ASSERT_EQ(::kill(twin_of(lockrun), SIGKILL), 0);
  EXPECT_EQ(lockrun.wait().status, exited(128 + SIGKILL));
  expect_all_gone(lockrun);
}

TEST_F(Killed, GuardsWithACometInTheirTreeDoToo)
{
  Process lockrun = run({"--hold", "tree"}, {program("comet"), "8"});
  EXPECT_EQ(lockrun.out_line(), "flying");
  lockrun.signal(SIGKILL);
  expect_all_gone(lockrun);
}

// The process that tells the twin whom a signal was for (one_signal_test.cpp) is in nobody's way.
TEST_F(Killed, OneOfThemDoesSoWithAWitness)
{
  for (const bool kills_twin : {true, false}) {
    Process lockrun = begin();
    const pid_t twin = twin_of(lockrun);
    ASSERT_TRUE(eventually([&] { return child_called(twin, "signal-witness") != 0; }));
    ASSERT_EQ(::kill(kills_twin ? twin : lockrun.pid(), SIGKILL), 0);
    EXPECT_EQ(lockrun.wait().status, kills_twin ? exited(128 + SIGKILL) : killed(SIGKILL));
    expect_all_gone(lockrun);
  }
}

// At any moment from the start on: the tree, if there is one already, never outlives lockrun.
TEST_F(Killed, GuardsLeaveNothingAtAnyMoment)
{
  for (int i = 0; i < 20; ++i) {
    Process lockrun = run_script("echo $$; exec cat <&8");
    const long long moment = elapsed_ms() + i;
    EXPECT_TRUE(eventually([&] { return elapsed_ms() >= moment; }));
    lockrun.signal(SIGKILL);
    expect_all_gone(lockrun);
  }
}

// --- What cannot be ended

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

// --- What is told to programs

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
