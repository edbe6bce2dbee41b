// The descriptors of the real program and of its command: which numbers, who has them.

#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using std::filesystem::exists;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

// Descriptors of a process that lead to this file.
std::vector<int> descriptors_on(pid_t pid, const std::filesystem::path& file)
{
  std::vector<int> found;
  const std::filesystem::path all = "/proc/" + std::to_string(pid) + "/fd";
  for (const auto& entry : std::filesystem::directory_iterator(all)) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry.path(), gone) == file) {
      found.push_back(std::stoi(entry.path().filename()));
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

// A running program whose command tells its process number and then waits for its standard input to end.
class Running {
public:
  explicit Running(Words options, const std::string& before_waiting = "", Start start = {})
  {
    start.in = start.out = k_pipe;
    options.insert(options.end(), {"sh", "-c", before_waiting + "echo $$; read line; exit 0"});
    m_process.emplace(lockrun_argv(options), start);
    m_command = std::stoi(m_process->out_line().value_or("0"));
  }
  pid_t lockrun() const { return m_process->pid(); }
  pid_t command() const { return m_command; }
  void end_command() { m_process->close_input(); }
  WaitStatus wait() { return m_process->wait().status; }

private:
  std::optional<Process> m_process;
  pid_t m_command = 0;
};

class Descriptors : public ::testing::Test {
protected:
  const TempDir dir;
  const std::string lock = dir / "lock";
};

// --- which numbers ---

TEST_F(Descriptors, OfTheLockIsTenOrAboveInTheCommandAndAboveTwoInLockrun)
{
  Running running({lock});
  ASSERT_GT(running.command(), 0);
  EXPECT_THAT(descriptors_on(running.command(), lock), ElementsAre(10));
  EXPECT_THAT(descriptors_on(running.lockrun(), lock), ElementsAre(::testing::Gt(2)));
  running.end_command();
  EXPECT_EQ(running.wait(), exited(0));
}

TEST_F(Descriptors, NothingElseReachesTheCommand)
{
  // As the command is started, not what a shell opens for itself.
  const std::string list = "/proc/self/fd";
  EXPECT_EQ(run_lockrun({lock, "ls", list}).out, "0\n1\n10\n2\n3\n"); // 3 is the directory that ls reads
  EXPECT_EQ(run_lockrun({"-o", lock, "ls", list}).out, "0\n1\n2\n3\n");
  EXPECT_EQ(run_lockrun({"-F", lock, "ls", list}).out, "0\n1\n10\n2\n3\n");
  EXPECT_EQ(run_lockrun({"--api=both", lock, "ls", list}).out, "0\n1\n10\n2\n3\n");
}

TEST_F(Descriptors, ThatWereInheritedReachTheCommandUnderTheirNumbers)
{
  const Pipe pipe;
  Start start;
  start.descriptors = {{3, pipe.read_end}, {9, pipe.read_end}, {10, pipe.read_end}, {11, pipe.write_end}};
  EXPECT_EQ(run_lockrun({lock, "ls", "/proc/self/fd"}, start).out, "0\n1\n10\n11\n12\n2\n3\n4\n9\n");
}

// The bits of its number say which of the three are closed.
class ClosedStandard : public Descriptors, public ::testing::WithParamInterface<int> {
protected:
  static bool is_closed(int fd) { return (GetParam() >> fd & 1) != 0; }
  static Start with_closed()
  {
    Start start;
    Redirect* const standard[] = {&start.in, &start.out, &start.err};
    for (int fd = 0; fd < 3; ++fd) {
      if (is_closed(fd)) { *standard[fd] = k_closed; }
    }
    return start;
  }
};

TEST_P(ClosedStandard, DescriptorsCannotBeLockedByTheirNames)
{
  const char* const names[] = {"/dev/stdin", "/dev/fd/1", "/proc/self/fd/2"};
  for (int fd = 0; fd < 3; ++fd) {
    if (!is_closed(fd)) { continue; }
    EXPECT_EQ(run_lockrun({"-n", names[fd], "touch", dir / "ran"}, with_closed()).status, exited(77));
    EXPECT_FALSE(std::filesystem::exists(dir / "ran"));
  }
}

TEST_P(ClosedStandard, DescriptorsAreNeverTheLockAndStayClosedForTheCommand)
{
  const std::string out = dir / "out";
  std::string expected;
  for (int fd = 0; fd < 3; ++fd) {
    if (!is_closed(fd)) { expected += std::to_string(fd) + " "; }
  }
  for (const char* const option : {"--hold=command", "-o", "-F", "--fcntl"}) {
    // Looked at from outside the shell, which would open the file under a free number.
    const std::string script = "(for n in 0 1 2; do test -e /proc/$$/fd/$n && printf '%s ' $n; done) >" + out + "; :";
    EXPECT_EQ(run_lockrun({option, lock, "sh", "-c", script}, with_closed()).status, exited(0));
    EXPECT_EQ(read_file(out), expected) << option;
    std::filesystem::remove(out);
  }
}

TEST_P(ClosedStandard, DescriptorsAreFilledWithSomethingElseInLockrun)
{
  Pipe leash;
  const Notice started;
  Start start = with_closed();
  start.descriptors = {{8, leash.read_end}, {9, started.write_end()}};
  Process lockrun(lockrun_argv({lock, "sh", "-c", "echo >&9; exec cat <&8 >/dev/null"}), start);
  ASSERT_TRUE(started.await());
  EXPECT_THAT(descriptors_on(lockrun.pid(), lock), ElementsAre(::testing::Gt(2)));
  leash.close_write();
  EXPECT_EQ(lockrun.wait().status, exited(0));
}

TEST_P(ClosedStandard, DescriptorsDoNotGetWhatWeSay)
{
  // Whatever was opened in the place of a closed descriptor 2 must not be written to.
  const std::string data = write_file(dir / "data", "data");
  const Start start = with_closed();
  const HoldingProcess holder(data);
  EXPECT_EQ(run_lockrun({"-n", data, "true"}, start).status, exited(75));
  EXPECT_EQ(run_lockrun({"-n", lock, "no-such-command-anywhere"}, start).status, exited(127));
  EXPECT_EQ(read_file(data), "data");
  EXPECT_EQ(read_file(lock), "");
}

INSTANTIATE_TEST_SUITE_P(Every, ClosedStandard, ::testing::Range(1, 8), [](const auto& closed) {
  std::string name;
  for (int fd = 0; fd < 3; ++fd) {
    if ((closed.param >> fd & 1) != 0) { name += std::to_string(fd); }
  }
  return name;
});

class LowLimit : public Descriptors, public ::testing::WithParamInterface<int> {};

TEST_P(LowLimit, PutsTheCommandsDescriptorAsHighAsItGoes)
{
  if (is_sanitized(lockrun_binary())) { GTEST_SKIP() << "the sanitizers need descriptors of their own"; }
  const auto limit = static_cast<rlim_t>(GetParam());
  Start start;
  start.before_exec = {hostile::limit(RLIMIT_NOFILE, limit)};
  Running running({lock}, "", start);
  ASSERT_GT(running.command(), 0);
  EXPECT_THAT(descriptors_on(running.command(), lock), ElementsAre(std::min(GetParam() - 1, 10)));
  running.end_command();
  EXPECT_EQ(running.wait(), exited(0));
}
INSTANTIATE_TEST_SUITE_P(
  Limits, LowLimit, ::testing::Range(6, 14), [](const auto& limit) { return std::to_string(limit.param); });

// --- descriptors of the shell's ---

TEST_F(Descriptors, OfTheShellAreLockedAndUnlocked)
{
  const std::string script = "exec 9>lock; \"$0\" 9 && echo locked; \"$0\" -n lock true; echo $?;"
                             "\"$0\" -u 9 && echo unlocked; \"$0\" -n lock true; echo $?";
  Start start;
  start.directory = dir.path();
  const auto ended = run_program({"sh", "-c", script, lockrun_binary()}, start);
  EXPECT_EQ(ended.out, "locked\n75\nunlocked\n0\n");
}

TEST_F(Descriptors, OfTheShellKeepTheLockUntilTheyAreClosed)
{
  const std::string script =
    "exec 9>lock; \"$0\" 9; (exec 9>&-; \"$0\" -n lock true); echo $?; exec 9>&-; \"$0\" -n lock true; echo $?";
  Start start;
  start.directory = dir.path();
  EXPECT_EQ(run_program({"sh", "-c", script, lockrun_binary()}, start).out, "75\n0\n");
}

TEST_F(Descriptors, OfTheShellCanBeBusyAndTimeOut)
{
  const HoldingProcess holder(lock);
  const int fd = ::open(lock.c_str(), O_RDWR | O_CLOEXEC);
  Start start;
  start.descriptors = {{9, fd}};
  EXPECT_EQ(run_lockrun({"-n", "9"}, start).status, exited(75));
  const auto ended = run_lockrun({"-w.01", "-E4", "9"}, start);
  EXPECT_EQ(ended.status, exited(4));
  EXPECT_THAT(ended.err, HasSubstr("lockrun: gave up waiting for descriptor 9 after 10ms"));
  EXPECT_EQ(kernel_holders(lock).size(), 1U);
  ::close(fd);
}

TEST_F(Descriptors, OfTheShellAreLockedAroundACommandAndFreeAfterwards)
{
  const int fd = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  Start start;
  start.descriptors = {{9, fd}};
  Running running({"--fd", "9"}, "", start);
  EXPECT_FALSE(is_free(lock));
  EXPECT_THAT(descriptors_on(running.command(), lock), ElementsAre(9));
  running.end_command();
  EXPECT_EQ(running.wait(), exited(0));
  EXPECT_TRUE(is_free(lock)); // though we have it open still
  ::close(fd);
}

TEST_F(Descriptors, OfTheShellCanBeAnyFileAndAnyKindOfLock)
{
  const int fd = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  Start start;
  start.descriptors = {{9, fd}};
  EXPECT_EQ(run_lockrun({"--api=both", "9"}, start).status, exited(0));
  EXPECT_FALSE(is_free(lock));
  EXPECT_FALSE(is_free(lock, Mode::shared, LockKind::ofd));
  EXPECT_EQ(run_lockrun({"--api=both", "-u", "9"}, start).status, exited(0));
  EXPECT_TRUE(is_free(lock));
  EXPECT_TRUE(is_free(lock, Mode::exclusive, LockKind::ofd));
  EXPECT_EQ(run_lockrun({"-s", "9"}, start).status, exited(0));
  EXPECT_TRUE(is_free(lock, Mode::shared));
  EXPECT_FALSE(is_free(lock, Mode::exclusive));
  ::close(fd);
}

TEST_F(Descriptors, AreNumbersOnlyWithoutACommand)
{
  Start start;
  start.directory = dir.path();
  EXPECT_EQ(run_lockrun({"9", "true"}, start).status, exited(0));
  EXPECT_TRUE(exists(dir / "9"));
}

TEST_F(Descriptors, TheCommandIsToldWhatIsHeldAndByWhom)
{
  Start start;
  start.out = k_pipe;
  Process process(lockrun_argv({lock, "sh", "-c", "echo $LOCKRUN_LOCK; echo $LOCKRUN_PID"}), start);
  const pid_t pid = process.pid();
  EXPECT_EQ(process.out_line(), lock);
  EXPECT_EQ(process.out_line(), std::to_string(pid));
  EXPECT_EQ(process.wait().status, exited(0));
}

} // namespace
} // namespace lockrun::testing
