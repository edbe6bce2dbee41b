// However many processes a signal is meant for, the command gets it once. Each test waits until lockrun has the process
// that tells it whom a signal was for (src/child/witness.hpp); before that a second one is excused.

#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"
#include "support/terminal.hpp"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Words = std::vector<std::string>;

std::string proc(pid_t pid, const std::string& file)
{
  return "/proc/" + std::to_string(pid) + "/" + file;
}

std::vector<pid_t> children_of(pid_t parent)
{
  std::istringstream list(read_file(proc(parent, "task/" + std::to_string(parent) + "/children")));
  std::vector<pid_t> children;
  for (pid_t child = 0; list >> child;) { children.push_back(child); }
  return children;
}

// How often it has blocked.
int sleeps_of(pid_t pid)
{
  std::istringstream words(read_file(proc(pid, "status")));
  for (std::string word; words >> word;) {
    int count = 0;
    if (word == "voluntary_ctxt_switches:" && words >> count) { return count; }
  }
  return 0;
}

bool is_witness(pid_t pid)
{
  return read_file(proc(pid, "comm")) == "signal-witness\n";
}

std::vector<pid_t> witnesses_of(pid_t supervisor)
{
  auto found = children_of(supervisor);
  found.erase(std::remove_if(found.begin(), found.end(), [](pid_t pid) { return !is_witness(pid); }), found.end());
  return found;
}

// That of a command in lockrun's process group, or of one outside.
pid_t await_witness(pid_t supervisor, bool in_group = true)
{
  pid_t witness = 0;
  EXPECT_TRUE(eventually([&] {
    for (const pid_t each : witnesses_of(supervisor)) {
      if ((::getpgid(each) == ::getpgid(supervisor)) == in_group) { witness = each; }
    }
    return witness != 0;
  }));
  return witness;
}

class OneSignal : public ::testing::Test {
protected:
  OneSignal()
  {
    start.out = k_pipe;
    start.descriptors = {{8, leash.read_end}};
    start.before_exec = {hostile::new_session()}; // the test is not in its process group
  }
  Words argv(const Words& options, const Words& in_front = {})
  {
    Words arguments = options;
    arguments.push_back(lock);
    arguments.insert(arguments.end(), in_front.begin(), in_front.end());
    arguments.insert(arguments.end(), {program("signals"), "8"});
    return lockrun_argv(arguments);
  }
  // A command that prints the signals that it gets; returns its number.
  pid_t await_command(Process& process)
  {
    const std::string ready = process.out_line().value_or("");
    EXPECT_EQ(ready.substr(0, 6), "ready ");
    return ready.size() > 6 ? std::stoi(ready.substr(6)) : 0;
  }
  Process run(const Words& options = {}, const Words& in_front = {})
  {
    Process lockrun(argv(options, in_front), start);
    command = await_command(lockrun);
    return lockrun;
  }
  // What has come by the time when `lockrun` has passed on all that it got. Of those that are pending at the same time
  // the lowest number comes first.
  static void expect_only(const Words& expected, Process& process, pid_t lockrun, int marker = SIGWINCH)
  {
    ASSERT_EQ(::kill(lockrun, marker), 0);
    Words got;
    for (auto line = process.out_line(); line && *line != ::sigabbrev_np(marker); line = process.out_line()) {
      if (*line != "CONT") { got.push_back(*line); } // more than one does nothing
    }
    EXPECT_EQ(got, expected);
  }
  // Nothing more has come at the end.
  void expect_clean_end(Process& process)
  {
    leash.close_write();
    EXPECT_EQ(process.out_line(), std::nullopt);
    EXPECT_EQ(process.wait().status, exited(0));
  }

  TempDir dir;
  std::string lock = dir / "lock";
  Pipe leash;
  Start start;
  pid_t command = 0;
};

const std::vector<Words> k_ways = {{}, {"--hold", "tree"}, {"--max-hold", "1h"}, {"-v"}, {"-o"}};

class EachSignal : public OneSignal, public ::testing::WithParamInterface<int> {
protected:
  std::string name() const { return ::sigabbrev_np(GetParam()); }
  // Whatever `deed` does, the command gets one signal; several times.
  void check(Process& process, pid_t lockrun, const std::function<void()>& deed)
  {
    for (int time = 0; time < 3; ++time) {
      deed();
      expect_only({name()}, process, lockrun);
    }
  }
};

TEST_P(EachSignal, ToTheProcessGroup)
{
  for (const Words& options : k_ways) {
    Pipe own_leash;
    start.descriptors = {{8, own_leash.read_end}};
    Process lockrun = run(options);
    await_witness(lockrun.pid());
    check(lockrun, lockrun.pid(), [&] { ASSERT_EQ(::kill(-lockrun.pid(), GetParam()), 0); });
    own_leash.close_write();
    EXPECT_EQ(lockrun.wait().status, exited(0));
  }
}

TEST_P(EachSignal, ToLockrunAlone)
{
  for (const Words& in_front : {Words{}, {"setsid", "-w"}}) {
    Pipe own_leash;
    start.descriptors = {{8, own_leash.read_end}};
    Process lockrun = run({}, in_front);
    await_witness(lockrun.pid(), in_front.empty());
    check(lockrun, lockrun.pid(), [&] { lockrun.signal(GetParam()); });
    own_leash.close_write();
    EXPECT_EQ(lockrun.wait().status, exited(0));
  }
}

TEST_P(EachSignal, ToTheGroupThatTheCommandHasLeft)
{
  Process lockrun = run({}, {"setsid", "-w"});
  await_witness(lockrun.pid(), false);
  check(lockrun, lockrun.pid(), [&] { ASSERT_EQ(::kill(-lockrun.pid(), GetParam()), 0); });
  expect_clean_end(lockrun);
}

// A service manager signals all processes of a control group so, in whatever order.
TEST_P(EachSignal, ToEachProcess)
{
  for (const Words& in_front : {Words{}, {"setsid", "-w"}}) {
    Pipe own_leash;
    start.descriptors = {{8, own_leash.read_end}};
    Process lockrun = run({}, in_front);
    std::vector<pid_t> all{lockrun.pid(), command, await_witness(lockrun.pid(), in_front.empty())};
    for (const pid_t each : witnesses_of(lockrun.pid())) {
      if (std::find(all.begin(), all.end(), each) == all.end()) { all.push_back(each); }
    }
    std::sort(all.begin(), all.end());
    do {
      for (const pid_t each : all) { ASSERT_EQ(::kill(each, GetParam()), 0); }
      expect_only({name()}, lockrun, lockrun.pid());
    } while (std::next_permutation(all.begin(), all.end()));
    own_leash.close_write();
    EXPECT_EQ(lockrun.wait().status, exited(0));
  }
}

// One to lockrun, one to the whole group, and CONT to both.
TEST_P(EachSignal, OfTimeout)
{
  for (const Words& options : {Words{}, {"--foreground"}}) {
    Pipe own_leash;
    start.descriptors = {{8, own_leash.read_end}};
    Words words{"timeout", "-s", name(), "1h"};
    words.insert(words.begin() + 1, options.begin(), options.end());
    for (const std::string& word : argv({})) { words.push_back(word); }
    Process timeout(words, start);
    command = await_command(timeout);
    ASSERT_EQ(children_of(timeout.pid()).size(), 1U);
    const pid_t lockrun = children_of(timeout.pid()).front();
    await_witness(lockrun);
    timeout.signal(SIGALRM); // the time has passed
    EXPECT_EQ(timeout.out_line(), name());
    expect_only({}, timeout, lockrun);
    own_leash.close_write();
    EXPECT_EQ(timeout.wait().status, exited(124));
  }
}

TEST_P(EachSignal, ThroughTwoOfThem)
{
  Words inner = lockrun_argv({dir / "inner"});
  Process outer = run({}, inner);
  const pid_t lockrun = parent_of(command);
  await_witness(outer.pid());
  await_witness(lockrun);
  check(outer, outer.pid(), [&] { ASSERT_EQ(::kill(-outer.pid(), GetParam()), 0); });
  check(outer, outer.pid(), [&] { outer.signal(GetParam()); });
  expect_clean_end(outer);
}

TEST_P(EachSignal, InTheFirstMomentIsNotLost)
{
  Process lockrun = run();
  ASSERT_EQ(::kill(-lockrun.pid(), GetParam()), 0);
  EXPECT_EQ(lockrun.out_line(), name());
  lockrun.signal(SIGWINCH);
  auto line = lockrun.out_line();
  if (line == name()) { line = lockrun.out_line(); } // it came twice
  EXPECT_EQ(line, "WINCH");
  expect_clean_end(lockrun);
}

TEST_P(EachSignal, ToWhatIsLeftWhenTheCommandHasEnded)
{
  for (const bool in_group : {true, false}) {
    Pipe own_leash;
    start.descriptors = {{8, own_leash.read_end}};
    const std::string way = in_group ? "" : program("detach") + " ";
    const std::string script = "read x <&8; " + way + program("signals") + " 8 &";
    Process lockrun(lockrun_argv({"--hold", "tree", lock, "sh", "-c", script}), start);
    await_witness(lockrun.pid());
    ASSERT_EQ(::write(own_leash.write_end, "\n", 1), 1);
    const pid_t left = await_command(lockrun);
    ASSERT_TRUE(eventually([&] {
      const auto children = children_of(lockrun.pid());
      return children.size() == 2 && std::find(children.begin(), children.end(), left) != children.end();
    }));
    check(lockrun, lockrun.pid(), [&] { lockrun.signal(GetParam()); });
    check(lockrun, lockrun.pid(), [&] { ASSERT_EQ(::kill(-lockrun.pid(), GetParam()), 0); });
    own_leash.close_write();
    EXPECT_EQ(lockrun.wait().status, exited(0));
  }
}

INSTANTIATE_TEST_SUITE_P(Name, EachSignal, ::testing::Values(SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1),
  [](const auto& row) { return std::string(::sigabbrev_np(row.param)); });

// Then a copy of lockrun stands between it and the command.
TEST_F(OneSignal, WhereThereAreProcessesThatWereThereBefore)
{
  Words words{"sh", "-c", "cat <&8 >/dev/null & exec \"$@\"", "sh"};
  for (const std::string& word : argv({"--hold", "tree"})) { words.push_back(word); }
  Process front(words, start);
  command = await_command(front);
  const auto children = children_of(front.pid());
  const auto copy = std::find_if(children.begin(), children.end(), [&](pid_t child) {
    const auto its = children_of(child);
    return std::find(its.begin(), its.end(), command) != its.end();
  });
  ASSERT_NE(copy, children.end());
  await_witness(front.pid());
  await_witness(*copy);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    ASSERT_EQ(::kill(-front.pid(), signal), 0);
    expect_only({::sigabbrev_np(signal)}, front, front.pid());
    front.signal(signal);
    expect_only({::sigabbrev_np(signal)}, front, front.pid());
  }
  expect_clean_end(front);
}

TEST_F(OneSignal, OfDifferentKindsArePassedOnInTheirOrder)
{
  Process lockrun = run();
  await_witness(lockrun.pid());
  for (const int signal : {SIGHUP, SIGINT, SIGTERM}) { lockrun.signal(signal); }
  expect_only({"HUP", "INT", "TERM"}, lockrun, lockrun.pid());
  expect_clean_end(lockrun);
}

TEST_F(OneSignal, OfOneKindToTheGroupAndOfAnotherToLockrunAlone)
{
  Process lockrun = run();
  await_witness(lockrun.pid());
  for (int time = 0; time < 5; ++time) {
    ASSERT_EQ(::kill(-lockrun.pid(), SIGINT), 0);
    lockrun.signal(SIGTERM);
    expect_only({"INT", "TERM"}, lockrun, lockrun.pid());
  }
  expect_clean_end(lockrun);
}

// --- With a terminal

class OneSignalAtATerminal : public ::testing::Test {
protected:
  OneSignalAtATerminal() : bash(interactive_bash(), start()) { EXPECT_TRUE(bash.await("bash> ")); }
  Start start()
  {
    Start result;
    result.directory = dir.path();
    result.descriptors = {{8, leash.read_end}};
    result.environment = {{"LOCKRUN", lockrun_binary()}, {"SIGNALS", program("signals")}};
    return result;
  }
  pid_t run(const std::string& line)
  {
    bash.type(line + "\n");
    EXPECT_TRUE(bash.await("ready "));
    const pid_t command = std::stoi(bash.rest_of_line());
    std::istringstream words(read_file(proc(command, "stat")));
    std::string word;
    pid_t lockrun = 0;
    words >> word >> word >> word >> lockrun;
    await_witness(lockrun);
    return lockrun;
  }
  TempDir dir;
  Pipe leash;
  Terminal bash;
};

TEST_F(OneSignalAtATerminal, OfTheShellToItsJob)
{
  const pid_t lockrun = run("$LOCKRUN lock $SIGNALS 8 &");
  for (const std::string name : {"TERM", "INT", "HUP", "QUIT", "USR1"}) {
    bash.type("kill -" + name + " %1\n");
    ASSERT_TRUE(bash.await(name + "\r\n"));
    ASSERT_EQ(::kill(lockrun, SIGWINCH), 0);
    ASSERT_TRUE(bash.await("WINCH\r\n"));
    EXPECT_THAT(bash.screen(), Not(HasSubstr(name)));
  }
}

TEST_F(OneSignalAtATerminal, OfAKey)
{
  const pid_t lockrun = run("$LOCKRUN lock $SIGNALS 8");
  for (const auto& [key, name] : {std::pair<std::string, std::string>{"\x03", "INT"}, {"\x1c", "QUIT"}}) {
    bash.type(key);
    ASSERT_TRUE(bash.await(name));
    EXPECT_EQ(bash.rest_of_line(), "");
    ASSERT_EQ(::kill(lockrun, SIGWINCH), 0);
    EXPECT_EQ(bash.rest_of_line(), "WINCH");
  }
}

// The witness is of the job's process group.
TEST_F(OneSignalAtATerminal, DoesNotDisturbJobControl)
{
  const pid_t lockrun = run("$LOCKRUN lock sh -c 'echo ready $$; cat <&8; echo done'");
  for (int time = 0; time < 2; ++time) {
    bash.type("\x1a");
    ASSERT_TRUE(bash.await("Stopped"));
    ASSERT_TRUE(bash.await("bash> "));
    EXPECT_TRUE(has_stopped(lockrun));
    bash.type("fg; echo status is $?\n");
    ASSERT_TRUE(bash.await("lock sh -c")); // what fg says
    ASSERT_TRUE(eventually([&] { return is_asleep(lockrun) && !has_stopped(lockrun); }));
    EXPECT_EQ(witnesses_of(lockrun).size(), 1U);
  }
  leash.close_write();
  ASSERT_TRUE(bash.await("done\r\n"));
  ASSERT_TRUE(bash.await("status is "));
  EXPECT_EQ(bash.rest_of_line(), "0");
}

// --- What the process is

class TheWitness : public OneSignal {};

TEST_F(TheWitness, HoldsNothingAndHasAnotherName)
{
  Process lockrun = run();
  const pid_t witness = await_witness(lockrun.pid());
  EXPECT_TRUE(std::filesystem::is_empty(proc(witness, "fd")));
  EXPECT_THAT(read_file(proc(witness, "cmdline")), Not(HasSubstr("lockrun")));
  EXPECT_THAT(read_file(proc(witness, "cmdline")), Not(HasSubstr(lock)));
  EXPECT_THAT(run_lockrun({"--status", "--json", lock}).out, Not(HasSubstr("\"pid\":" + std::to_string(witness))));
  // As `pkill -f` would.
  const auto pgrep = run_program({"pgrep", "-P", std::to_string(lockrun.pid()), "-f", "lockrun"});
  EXPECT_THAT(pgrep.out, Not(HasSubstr(std::to_string(witness))));
  expect_clean_end(lockrun);
}

TEST_F(TheWitness, EndsWithLockrun)
{
  for (const int signal : {SIGKILL, 0}) {
    Pipe own_leash;
    start.descriptors = {{8, own_leash.read_end}};
    Process lockrun = run();
    const pid_t witness = await_witness(lockrun.pid());
    if (signal != 0) {
      lockrun.signal(signal);
    } else {
      own_leash.close_write();
    }
    (void)lockrun.wait();
    EXPECT_TRUE(eventually([&] { return !is_witness(witness) || read_file(proc(witness, "cmdline")).empty(); }));
    own_leash.close_write();
    EXPECT_TRUE(eventually([&] { return is_free(lock); }));
  }
}

// Nobody waits for it, ends it or names it.
TEST_F(TheWitness, IsNoneOfTheTree)
{
  start.err = k_captured;
  for (const Words& options : {Words{"--hold", "tree", "-v"}, {"--hold", "tree", "--max-hold", "1h", "-v"}, {"-v"}}) {
    Pipe own_leash;
    start.descriptors = {{8, own_leash.read_end}};
    Process lockrun = run(options);
    await_witness(lockrun.pid());
    own_leash.close_write();
    const Finished ended = lockrun.wait();
    EXPECT_EQ(ended.status, exited(0));
    EXPECT_THAT(ended.err, Not(HasSubstr("witness")));
  }
  start.descriptors = {{8, leash.read_end}};
  Process lockrun(lockrun_argv({"--max-hold", "300ms", lock, "sh", "-c", "cat <&8"}), start);
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(124));
  EXPECT_THAT(ended.err, Not(HasSubstr("witness")));
}

TEST_F(TheWitness, IsReplacedWhenItIsKilled)
{
  Process lockrun = run();
  const pid_t witness = await_witness(lockrun.pid());
  ASSERT_EQ(::kill(witness, SIGKILL), 0);
  lockrun.signal(SIGTERM);
  EXPECT_EQ(lockrun.out_line(), "TERM");
  ASSERT_TRUE(eventually([&] {
    const auto now = witnesses_of(lockrun.pid());
    return !now.empty() && now.front() != witness;
  }));
  ASSERT_EQ(::kill(-lockrun.pid(), SIGTERM), 0);
  expect_only({"TERM"}, lockrun, lockrun.pid());
  expect_clean_end(lockrun);
}

// Then each signal is passed on, as in the first moment.
TEST_F(TheWitness, IsDoneWithoutWhereThereMayBeNoMoreProcesses)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root to become a user who has no other processes"; }
  const uid_t user = lonely_user();
  ASSERT_EQ(::chmod(dir.path().c_str(), 0777), 0);
  start.before_exec.push_back(hostile::become_user(user));
  start.before_exec.push_back(hostile::limit(RLIMIT_NPROC, 2));
  Process lockrun = run();
  ASSERT_TRUE(eventually([&] { return is_asleep(lockrun.pid()); }));
  const int before = sleeps_of(lockrun.pid());
  ASSERT_TRUE(eventually([&] { return sleeps_of(lockrun.pid()) > before; })); // it has tried
  lockrun.signal(SIGTERM);
  EXPECT_EQ(lockrun.out_line(), "TERM");
  expect_only({}, lockrun, lockrun.pid());
  EXPECT_THAT(witnesses_of(lockrun.pid()), IsEmpty());
  expect_clean_end(lockrun);
}

} // namespace
} // namespace lockrun::testing
