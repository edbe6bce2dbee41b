// Who holds it: the lines that people read.
#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include "sys/descriptor.hpp"

#include <csignal>
#include <optional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

// "3m12s", "1.5s", "250ms".
const std::string k_duration = "([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9.]+m?s)?";

// Runs while `end` is open.
std::vector<std::string> until_closed(const std::string& mark = "")
{
  return {"sh", "-c", "read line; exit 0", mark.empty() ? "sh" : mark};
}

// A program that runs until its standard input is closed, and that holds the lock already.
class Holding {
public:
  Holding(const std::filesystem::path& path, const std::vector<std::string>& argv, Start start = {})
    : m_process(argv, with_input(std::move(start)))
  {
    if (!eventually([&] { return !kernel_holders(path).empty() && !is_free(path); })) {
      throw std::runtime_error(argv[0] + " does not hold " + path.string());
    }
  }
  pid_t pid() const { return m_process.pid(); }
  Process& process() { return m_process; }
  void end()
  {
    m_process.close_input();
    (void)m_process.wait();
  }

private:
  static Start with_input(Start start)
  {
    start.in = k_pipe;
    return start;
  }
  Process m_process;
};

std::vector<std::string> joined(std::vector<std::string> first, const std::vector<std::string>& second)
{
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

class Messages : public ::testing::Test {
protected:
  Finished try_lock(const std::vector<std::string>& options = {}, const Start& start = {}) const
  {
    return call(joined(joined({"-n"}, options), {path.string(), "true"}), start);
  }
  // It does not look for the holder for long: where processors are scarce the next call may find it.
  static Finished call(const std::vector<std::string>& arguments, const Start& start = {})
  {
    std::optional<Finished> told;
    (void)eventually([&] {
      told.emplace(run_lockrun(arguments, start));
      const auto says = [&](const char* words) { return told->err.find(words) != std::string::npos; };
      return !says("held by another process") && !says("held by a process that cannot be seen");
    });
    return *told;
  }
  std::string holder_line(const std::string& rest) const
  {
    return fmt::format("lockrun: '{}' is {}\n", path.native(), rest);
  }

  const TempDir dir;
  const std::filesystem::path path = dir / "lock";
};

TEST_F(Messages, BusyNamesWhatAnotherLockrunRuns)
{
  Holding holder(path, lockrun_argv(joined({path.string()}, until_closed("nightly backup"))));
  ASSERT_TRUE(eventually([&] { return is_stamped(path); }));
  const auto told = try_lock();
  EXPECT_EQ(told.status, exited(75));
  EXPECT_THAT(told.err,
    MatchesRegex(holder_line(fmt::format(
      "held by PID {} \\(sh -c read line; exit 0 nightly backup, user [a-z]+\\) for {}", holder.pid(), k_duration))));
  EXPECT_EQ(told.out, "");
  holder.end();
}

// What --verbose says is not worth holding the lock for.
TEST_F(Messages, NobodyWaitsForSomebodyToReadThatTheLockWasGot)
{
  Pipe full;
  full.fill();
  Start start;
  start.descriptors = {{9, full.write_end}};
  EXPECT_EQ(
    run_program(
      {"sh", "-c", "exec \"$@\" 2>&9", "sh", lockrun_binary(), "-v", path.string(), "sh", "-c", "exit 3"}, start)
      .status,
    exited(3));
}

TEST_F(Messages, QuietBusySaysNothing)
{
  const HeldLock held(path);
  const auto told = try_lock({"-q"});
  EXPECT_EQ(told.status, exited(75));
  EXPECT_EQ(told.err, "");
}

TEST_F(Messages, GivingUpNamesTheHolder)
{
  const HoldingProcess holder(path);
  const auto told = call({"-w", "250ms", path.string(), "true"});
  EXPECT_EQ(told.status, exited(75));
  EXPECT_THAT(told.err, MatchesRegex(fmt::format(
                          "lockrun: gave up waiting for '{}' after 250ms, held by PID {} \\(.*, user [a-z]+\\) for at "
                          "most {}\n",
                          path.native(), holder.pid(), k_duration)));
}

TEST_F(Messages, ShowsAStringThatAShellRuns)
{
  Holding holder(path, lockrun_argv({path.string(), "-c", "read line; true"}));
  EXPECT_THAT(try_lock().err, HasSubstr(fmt::format("PID {} (read line; true, user ", holder.pid())));
  holder.end();
}

TEST_F(Messages, ShowsTheCommandBehindOptionsAndDashes)
{
  Holding holder(
    path, lockrun_argv(joined({"-w5", "-E", "3", "--api", "flock", path.string(), "--"}, until_closed("marked"))));
  EXPECT_THAT(try_lock().err, HasSubstr("(sh -c read line; exit 0 marked, user "));
  holder.end();
}

TEST_F(Messages, ACommandThatLockrunBecameIsTheHolderSinceItTookTheLock)
{
  Holding holder(path, lockrun_argv(joined({"-F", path.string()}, until_closed("became"))));
  ASSERT_TRUE(eventually([&] { return is_stamped(path); }));
  EXPECT_THAT(try_lock().err,
    MatchesRegex(holder_line(fmt::format(
      "held by PID {} \\(sh -c read line; exit 0 became, user [a-z]+\\) for {}", holder.pid(), k_duration))));
  holder.end();
}

TEST_F(Messages, NamesPlainFlockAsItIs)
{
  if (run_program({"sh", "-c", "command -v flock"}).status != exited(0)) { GTEST_SKIP() << "no flock(1)"; }
  Holding holder(path, joined({"flock", path.string()}, until_closed()));
  EXPECT_THAT(
    try_lock().err, MatchesRegex(holder_line(fmt::format("held by PID {} \\(flock {}.* user [a-z]+\\) for at most {}",
                      holder.pid(), dir.path().native(), k_duration))));
  holder.end();
}

TEST_F(Messages, NamesAShellThatLockedItsOwnDescriptor)
{
  Start start;
  start.out = k_pipe;
  Holding holder(
    path, {"sh", "-c", "exec 9>" + path.string() + "; " + lockrun_binary() + " 9; echo; read line; exit 0"}, start);
  ASSERT_TRUE(holder.process().out_line()); // the one that took it has ended
  EXPECT_THAT(try_lock().err,
    MatchesRegex(holder_line(fmt::format("held by PID {} \\(sh -c exec 9>.*, user [a-z]+\\)", holder.pid()))));
  holder.end();
}

TEST_F(Messages, NamesTheCommandWhenLockrunWasKilled)
{
  const Pipe end;
  Start start;
  start.descriptors = {{8, end.read_end}};
  start.out = k_pipe;
  Holding holder(path, lockrun_argv({path.string(), "sh", "-c", "echo; read line <&8; exit 0"}), start);
  ASSERT_TRUE(holder.process().out_line()); // until then it is lockrun's own child that has the lock, or nobody yet
  holder.process().signal(SIGKILL);
  (void)holder.process().wait();
  const auto told = try_lock();
  EXPECT_EQ(told.status, exited(75));
  EXPECT_THAT(told.err,
    MatchesRegex(holder_line(
      fmt::format("held by PID [0-9]+ \\(sh -c echo; read line <&8; exit 0, user [a-z]+\\) for {}", k_duration))));
  EXPECT_THAT(told.err, Not(HasSubstr(fmt::format("PID {} ", holder.pid()))));
  const_cast<Pipe&>(end).close_write();
  EXPECT_TRUE(eventually([&] { return is_free(path); }));
}

TEST_F(Messages, CountsSharedHolders)
{
  const HoldingProcess one(path, Mode::shared);
  const HoldingProcess two(path, Mode::shared);
  EXPECT_THAT(try_lock().err, MatchesRegex(holder_line("held by PID [0-9]+ \\([^)]*\\) and PID [0-9]+ \\([^)]*\\)")));
  const HoldingProcess three(path, Mode::shared);
  const HoldingProcess four(path, Mode::shared);
  const HoldingProcess five(path, Mode::shared);
  EXPECT_THAT(try_lock().err,
    MatchesRegex(
      holder_line("held by PID [0-9]+ \\([^)]*\\), PID [0-9]+ \\([^)]*\\), PID [0-9]+ \\([^)]*\\) and 2 more")));
}

TEST_F(Messages, NamesOfdAndPosixHolders)
{
  for (const LockKind kind : {LockKind::ofd, LockKind::posix}) {
    const HoldingProcess holder(path, Mode::exclusive, kind);
    EXPECT_THAT(try_lock({"--api", "ofd"}).err,
      MatchesRegex(
        holder_line(fmt::format("held by PID {} \\(.*, user [a-z]+\\) for at most {}", holder.pid(), k_duration))))
      << name_of(kind);
  }
}

TEST_F(Messages, EscapesWhatATerminalWouldObey)
{
  Holding holder(path, lockrun_argv(joined({path.string()}, until_closed("\x1b[2J\nred\xff"))));
  const std::string line = try_lock().err;
  EXPECT_THAT(line, HasSubstr("\\x1b[2J\\nred\\xff"));
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  holder.end();
}

TEST_F(Messages, ShortensLongCommands)
{
  Holding holder(path, lockrun_argv(joined({path.string()}, until_closed(std::string(100'000, 'x')))));
  const std::string line = try_lock().err;
  EXPECT_THAT(line, HasSubstr("xxx..., user "));
  EXPECT_LT(line.size(), 300U);
  holder.end();
}

TEST_F(Messages, NamesTheHolderOfADescriptorsFile)
{
  const HoldingProcess holder(path);
  const sys::Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  Start start;
  start.descriptors = {{7, fd.get()}};
  const auto told = run_lockrun({"-n", "7"}, start);
  EXPECT_EQ(told.status, exited(75));
  EXPECT_THAT(told.err, HasSubstr(fmt::format("lockrun: descriptor 7 is held by PID {} (", holder.pid())));
}

// Nothing would end it: its signals are blocked.
TEST_F(Messages, AFullPipeKeepsNobody)
{
  const HoldingProcess holder(path);
  const Pipe full;
  full.fill();
  Start start;
  start.descriptors = {{2, full.write_end}};
  EXPECT_EQ(try_lock({}, start).status, exited(75));
}

TEST_F(Messages, ASlowReaderLosesNothing)
{
  const HoldingProcess holder(path);
  Pipe slow;
  slow.fill();
  Start start;
  start.descriptors = {{2, slow.write_end}};
  Process process(lockrun_argv({"-n", path.string(), "true"}), start);
  ASSERT_TRUE(eventually([&] { return is_asleep(process.pid()); }));
  slow.close_write();
  std::string all;
  char bytes[4096];
  for (ssize_t size = 0; (size = ::read(slow.read_end, bytes, sizeof bytes)) > 0;) {
    all.append(bytes, static_cast<std::size_t>(size));
  }
  EXPECT_EQ(process.wait().status, exited(75));
  EXPECT_THAT(all, HasSubstr("lockrun: '" + path.string() + "' is held by PID "));
}

// --- what cannot be seen ---

TEST_F(Messages, SaysWhenAHolderMayNotBeLookedInto)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
  const HoldingProcess holder(path);
  Start start;
  start.before_exec = {hostile::become_user(k_nobody)};
  EXPECT_THAT(try_lock({}, start).err,
    MatchesRegex(holder_line(
      fmt::format("held, taken by PID {} \\(.*, user root\\), which this user may not look into", holder.pid()))));
}

TEST_F(Messages, SaysOfEachOfSeveralWhetherItIsCertain)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
  const HoldingProcess one(path, Mode::shared);
  const HoldingProcess other(path, Mode::shared);
  Start start;
  start.before_exec = {hostile::become_user(k_nobody)};
  const char* const holder = "PID [0-9]+ \\([^)]*, user root, took it, this user may not look into it\\)";
  EXPECT_THAT(try_lock({}, start).err, MatchesRegex(holder_line(fmt::format("held by {} and {}", holder, holder))));
}

TEST_F(Messages, SaysWhenTheHolderIsInAnotherPidNamespace)
{
  const HoldingProcess holder(path);
  const auto told =
    run_program(joined({"unshare", "-pf", "--mount-proc"}, lockrun_argv({"-n", path.string(), "true"})));
  if (told.err.find("unshare: ") == 0) { GTEST_SKIP() << told.err; }
  EXPECT_EQ(told.status, exited(75));
  EXPECT_EQ(told.err, holder_line("held by a process that cannot be seen from here, or was until just now"));
}

TEST_F(Messages, SeesIntoAPidNamespaceBelow)
{
  const auto possible = run_program({"unshare", "-pf", "--mount-proc", "true"});
  if (possible.status != exited(0)) { GTEST_SKIP() << possible.err; }
  Holding holder(path, joined({"unshare", "-pf", "--kill-child", "--mount-proc"},
                         lockrun_argv(joined({path.string()}, until_closed("below")))));
  ASSERT_TRUE(eventually([&] { return is_stamped(path); }));
  EXPECT_THAT(try_lock().err,
    MatchesRegex(holder_line(
      fmt::format("held by PID [0-9]+ \\(sh -c read line; exit 0 below, user [a-z]+\\) for {}", k_duration))));
  holder.end();
}

// Where stat's device and inode are not those of /proc/locks.
TEST_F(Messages, NamesTheHolderOnOverlayfs)
{
  const std::string script = fmt::format(R"(
    mount -t tmpfs none '{0}' && cd '{0}' && mkdir lower lower2 upper work merged && : >lower/lock || exit 77
    mkdir other && mount -t tmpfs none other && mkdir other/lower && : >other/lower/lock || exit 77
    mount -t overlay overlay -o lowerdir=other/lower:lower,upperdir=upper,workdir=work merged || exit 77
    mkfifo held end
    '{1}' merged/lock sh -c 'echo >held; read line <end' overlaid &
    read line <held
    '{1}' -n merged/lock true
    status=$?
    echo >end
    wait
    exit $status)",
    dir.path().native(), lockrun_binary());
  const auto told = run_program({"unshare", "-m", "sh", "-c", script});
  if (told.status == exited(77) || told.err.find("unshare: ") == 0) { GTEST_SKIP() << told.err; }
  EXPECT_EQ(told.status, exited(75));
  EXPECT_THAT(told.err,
    MatchesRegex(fmt::format(
      "lockrun: 'merged/lock' is held by PID [0-9]+ \\(sh -c .* overlaid, user root\\) for {}\n", k_duration)));
}

} // namespace
} // namespace lockrun::testing
