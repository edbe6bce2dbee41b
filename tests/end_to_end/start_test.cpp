// The moment in which the command is started: it can last as long as a file server likes, and nothing may be deaf then.

#include "end_to_end/trace.hpp"
#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;

pid_t only_child_of(pid_t pid)
{
  const std::string number = std::to_string(pid);
  const std::string children = read_file("/proc/" + number + "/task/" + number + "/children");
  return children.empty() ? 0 : std::stoi(children);
}

// A lease on a file in a process of its own, which does not give it up before it is told to: opening the file blocks
// (fcntl(2), F_SETLEASE).
class Lease {
public:
  explicit Lease(const std::string& path)
    : m_holder([this, path] {
        hostile::ignore(SIGIO)();
        const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        // Not while another process of the tests happens to have it open.
        if (!eventually([&] { return ::fcntl(fd, F_SETLEASE, F_WRLCK) == 0; })) { return 1; }
        m_ready.give();
        m_end.wait();
        return 0;
      })
  {
    m_works = m_ready.await();
  }
  bool works() const { return m_works; }
  void give_up() const { m_end.give(); }

private:
  Notice m_end;
  Notice m_ready;
  bool m_works = false;
  Forked m_holder;
};

class UnderALease : public ::testing::Test {
protected:
  Process begin(const Words& options, const Start& start = {})
  {
    Words arguments = options;
    arguments.insert(arguments.end(), {lock, file});
    return Process(lockrun_argv(arguments), start);
  }
  // The command waits in execve(2) afterwards, as the only child of lockrun.
  Process run(const Words& options, const Start& start = {})
  {
    Process lockrun = begin(options, start);
    EXPECT_TRUE(eventually([&] {
      child = only_child_of(lockrun.pid());
      return child != 0 && is_asleep(child);
    }));
    return lockrun;
  }
  void expect_that_nothing_ran(const Finished& ended) const
  {
    EXPECT_EQ(ended.out, "");
    EXPECT_TRUE(is_free(lock));
  }

  TempDir dir;
  std::string lock = dir / "lock";
  std::string file = write_file(dir / "command", "#!/bin/sh\necho ran\nexit 7\n", 0755);
  Lease lease{file};
  pid_t child = 0;
};

TEST_F(UnderALease, TheCommandRunsWhenItIsGivenUp)
{
  ASSERT_TRUE(lease.works());
  Process lockrun = run({});
  EXPECT_FALSE(is_free(lock));
  lease.give_up();
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(7));
  EXPECT_EQ(ended.out, "ran\n");
}

TEST_F(UnderALease, ASignalEndsTheCommand)
{
  ASSERT_TRUE(lease.works());
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) {
    Process lockrun = run({});
    lockrun.signal(signal);
    const Finished ended = lockrun.wait();
    EXPECT_EQ(ended.status, exited(128 + signal));
    expect_that_nothing_ran(ended);
  }
}

TEST_F(UnderALease, TheTimeLimitEndsTheCommand)
{
  ASSERT_TRUE(lease.works());
  const Finished ended = begin({"--max-hold", "300ms", "-k", "1h"}).wait();
  EXPECT_EQ(ended.status, exited(124));
  expect_that_nothing_ran(ended);
  for (const auto& inherited : {hostile::ignore(SIGTERM), hostile::block(SIGTERM)}) {
    Start start;
    start.before_exec = {inherited};
    const Finished killed_at_last = begin({"--max-hold", "300ms", "-k", "10ms"}, start).wait();
    EXPECT_EQ(killed_at_last.status, exited(137));
    expect_that_nothing_ran(killed_at_last);
  }
}

TEST_F(UnderALease, TheCommandStopsAndGoesOn)
{
  ASSERT_TRUE(lease.works());
  // Nothing stops a member of an orphaned process group, and without a shell above it ours is one.
  Start start;
  start.before_exec = {[] { ::setpgid(0, 0); }};
  Process lockrun = run({}, start);
  // Until it waits for signals, a stopping one stops lockrun alone; sigtimedwait(2) unblocks what it waits for.
  ASSERT_TRUE(eventually([&] { return !blocks_signal(lockrun.pid(), SIGTERM); }));
  lockrun.signal(SIGTSTP);
  ASSERT_TRUE(eventually([&] { return has_stopped(child); }));
  lockrun.signal(SIGCONT);
  ASSERT_TRUE(eventually([&] { return word_of_status(child, "State:") == "S"; }));
  lease.give_up();
  EXPECT_EQ(lockrun.wait().status, exited(7));
}

TEST_F(UnderALease, AnEngineIsNotWaitedForBySignals)
{
  const std::string engine = write_file(dir / "lockrun-engine-slow", "#!/bin/sh\n", 0755);
  const Lease on_engine(engine);
  ASSERT_TRUE(on_engine.works());
  Start start;
  start.environment = {{"LOCKRUN_ENGINE_PATH", dir.path()}};
  Process lockrun(lockrun_argv({"slow://x", "echo", "ran"}), start);
  ASSERT_TRUE(eventually([&] {
    child = only_child_of(lockrun.pid());
    return child != 0 && is_asleep(child);
  }));
  lockrun.signal(SIGTERM);
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, killed(SIGTERM));
  EXPECT_EQ(ended.out, "");
}

// --- On a file server that does not answer

class OnAFrozenServer : public UnderALease {
protected:
  void SetUp() override
  {
    std::filesystem::create_directory(dir / "mount");
    Start start;
    start.out = k_pipe;
    start.descriptors = {{8, leash.read_end}};
    server.emplace(Words{program("frozen"), dir / "mount", "8"}, start);
    if (server->out_line() != "mounted") { GTEST_SKIP() << "no FUSE for us"; }
    file = dir / "mount/command";
  }
  ~OnAFrozenServer() override
  {
    leash.close_write();
    if (server) { (void)server->wait(); }
  }
  Pipe leash;
  std::optional<Process> server;
};

TEST_F(OnAFrozenServer, ASignalEndsTheCommand)
{
  Process lockrun = run({});
  lockrun.signal(SIGTERM);
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(128 + SIGTERM));
  expect_that_nothing_ran(ended);
}

TEST_F(OnAFrozenServer, TheTimeLimitEndsTheCommand)
{
  const Finished ended = begin({"--max-hold", "300ms", "-k", "1h"}).wait();
  EXPECT_EQ(ended.status, exited(124));
  expect_that_nothing_ran(ended);
}

// --- Where a child cannot share our memory

class Emulated : public ::testing::TestWithParam<Words> {
protected:
  void SetUp() override
  {
    Words probe = GetParam();
    probe.emplace_back("/bin/true");
    if (is_sanitized(lockrun_binary()) || run_program({"sh", "-c", "command -v " + probe[0]}).status != exited(0) ||
        run_program(probe).status != exited(0)) {
      GTEST_SKIP() << "no " << probe[0] << " for this program";
    }
  }
  Finished run(const Words& command) const
  {
    Words argv = GetParam();
    const auto program = lockrun_argv({lock});
    argv.insert(argv.end(), program.begin(), program.end());
    argv.insert(argv.end(), command.begin(), command.end());
    return run_program(argv);
  }

  TempDir dir;
  std::string lock = dir / "lock";
};

TEST_P(Emulated, TheCommandsStatusIsOurs)
{
  const Finished ended = run({"sh", "-c", "exit 7"});
  EXPECT_EQ(ended.status, exited(7));
  EXPECT_EQ(ended.err, "");
}

TEST_P(Emulated, TellsWhyThereIsNoCommand)
{
  const Finished missing = run({"no-such-command-anywhere"});
  EXPECT_EQ(missing.status, exited(127));
  EXPECT_EQ(missing.err, "lockrun: cannot run 'no-such-command-anywhere': not found in PATH\n");
  const Finished plain = run({write_file(dir / "plain", "", 0644)});
  EXPECT_EQ(plain.status, exited(126));
  EXPECT_THAT(plain.err, HasSubstr("Permission denied (EACCES)"));
}

std::string machine()
{
  utsname name{};
  (void)::uname(&name);
  return name.machine;
}
INSTANTIATE_TEST_SUITE_P(By, Emulated,
  ::testing::Values(Words{"valgrind", "-q", "--tool=none"}, Words{"qemu-" + machine() + "-static"}),
  [](const auto& row) { return row.param[0].substr(0, row.param[0].find('-')); });

// --- What the kernel refuses

class Refused : public ::testing::Test {
protected:
  void SetUp() override
  {
    if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  }
  Finished run(const std::string& answer, Words options, const Words& command)
  {
    options.push_back(lock);
    options.insert(options.end(), command.begin(), command.end());
    return run_program(traced(dir / "log", {"-e", "inject=" + answer}, options));
  }

  TempDir dir;
  std::string lock = dir / "lock";
};

TEST_F(Refused, TheCommandIsOutlivedThoughItsStatusIsUnknown)
{
  const std::string mark = dir / "mark";
  for (const char* const error : {"EPERM", "ENOSYS", "EINVAL", "ECHILD"}) {
    for (const Words& options : {Words{}, Words{"--hold", "tree"}, Words{"--max-hold", "1h"}, Words{"-v"}}) {
      std::filesystem::remove(mark);
      const Finished ended = run(std::string("waitid:error=") + error, options, {"sh", "-c", "echo x >" + mark});
      EXPECT_EQ(ended.status, exited(71)) << error;
      EXPECT_THAT(ended.err, HasSubstr("lockrun: cannot tell how 'sh' ended: waitid: "));
      EXPECT_THAT(ended.err, HasSubstr(error));
      EXPECT_EQ(read_file(mark), "x\n");
      EXPECT_TRUE(is_free(lock));
    }
  }
}

TEST_F(Refused, OneAnswerIsNotMissed)
{
  for (const char* const error : {"EPERM", "ECHILD"}) {
    const Finished ended = run(std::string("waitid:error=") + error + ":when=1", {}, {"sh", "-c", "exit 3"});
    EXPECT_EQ(ended.status, exited(3)) << error;
    EXPECT_EQ(ended.err, "");
  }
}

// As in QEMU's user mode.
TEST_F(Refused, OnlyTheTreeNeedsASubreaper)
{
  const std::string answer = "prctl:error=EINVAL";
  EXPECT_EQ(run(answer, {}, {"sh", "-c", "exit 3"}).status, exited(3));
  EXPECT_EQ(run(answer, {"-v"}, {"sh", "-c", "exit 3"}).status, exited(3));
  for (const Words& options : {Words{"--hold", "tree"}, Words{"--max-hold", "1h"}}) {
    const Finished ended = run(answer, options, {"echo", "ran"});
    EXPECT_EQ(ended.status, exited(69));
    EXPECT_EQ(ended.out, "");
    EXPECT_EQ(ended.err, "lockrun: cannot start 'echo': prctl: Invalid argument (EINVAL)\n");
  }
}

TEST_F(Refused, AChildThatSharesMemoryBecomesACopy)
{
  if (is_sanitized(lockrun_binary())) { GTEST_SKIP() << "a sanitized program makes nothing but copies"; }
  for (const char* const error : {"EINVAL", "EPERM"}) {
    const std::string answer = std::string("clone:error=") + error + ":when=1";
    EXPECT_EQ(run(answer, {}, {"sh", "-c", "exit 3"}).status, exited(3)) << error;
    EXPECT_EQ(run(answer, {}, {"no-such-command-anywhere"}).status, exited(127)) << error;
  }
  const Finished ended = run("clone:error=EAGAIN", {}, {"echo", "ran"});
  EXPECT_EQ(ended.status, exited(71));
  EXPECT_THAT(ended.err, HasSubstr("lockrun: cannot start 'echo': clone: Resource temporarily unavailable (EAGAIN)"));
  EXPECT_EQ(ended.out, "");
}

} // namespace
} // namespace lockrun::testing
