// The guard or its twin is killed under a lock of an engine: the other ends the tree and gives the lock back.

#include "end_to_end/engine_fixture.hpp"
#include "support/control_group.hpp"
#include "support/eventually.hpp"
#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

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

} // namespace
} // namespace lockrun::testing
