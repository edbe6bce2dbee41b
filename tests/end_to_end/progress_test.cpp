// Why do I wait: what lockrun says while it is queued.
#include "end_to_end/trace.hpp"
#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <csignal>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::Value;

Start with_lines()
{
  Start start;
  start.err = k_pipe;
  return start;
}

class Waiting : public ::testing::Test {
protected:
  Process waiter(const std::vector<std::string>& options, const std::vector<std::string>& command = {"true"}) const
  {
    std::vector<std::string> arguments = options;
    arguments.push_back(path);
    arguments.insert(arguments.end(), command.begin(), command.end());
    return Process(lockrun_argv(arguments), with_lines());
  }

  const TempDir dir;
  const std::filesystem::path path = dir / "lock";
};

TEST_F(Waiting, SaysOnceWhoHoldsIt)
{
  HoldingProcess holder(path);
  const auto line_with_holder = MatchesRegex(fmt::format(
    "lockrun: waiting for '{}', held by PID {} \\(.*, user [a-z]+\\) for at most .*", path.native(), holder.pid()));
  // Where many wait for locks, this one may not get its turn to look.
  ASSERT_TRUE(eventually([&] { return Value(waiter({}).err_line().value_or(""), line_with_holder); }));
  auto process = waiter({});
  EXPECT_THAT(process.err_line().value_or(""), StartsWith(fmt::format("lockrun: waiting for '{}'", path.native())));
  holder.release();
  EXPECT_EQ(process.err_line(), std::nullopt);
  EXPECT_EQ(process.wait().status, exited(0));
}

TEST_F(Waiting, SaysNothingWhenItIsShort)
{
  EXPECT_TRUE(eventually([&] { // on a busy machine it may not be
    HoldingProcess holder(path);
    auto process = waiter({});
    EXPECT_TRUE(eventually([&] { return kernel_waiters(path) == 1; }));
    holder.release();
    const auto line = process.err_line();
    EXPECT_EQ(process.wait().status, exited(0));
    return !line;
  }));
}

TEST_F(Waiting, QuietSaysNothing)
{
  const HoldingProcess holder(path);
  auto process = waiter({"-q", "-w", "1.2"});
  EXPECT_EQ(process.err_line(), std::nullopt);
  EXPECT_EQ(process.wait().status, exited(75));
}

TEST_F(Waiting, SaysItAgainEachInterval)
{
  HoldingProcess holder(path);
  auto process = waiter({"--progress=1s"});
  EXPECT_THAT(process.err_line().value_or(""), HasSubstr("lockrun: still waiting for '"));
  EXPECT_THAT(process.err_line().value_or(""), ContainsRegex(" after [0-9]+s"));
  holder.release();
  EXPECT_EQ(process.wait().status, exited(0));
}

TEST_F(Waiting, TalkingDoesNotCostThePlaceInTheQueue)
{
  HoldingProcess holder(path);
  const auto order = dir / "order";
  const std::string append = "echo $0 >>" + order.string();
  auto first = waiter({"--progress=1s"}, {"sh", "-c", append, "first"});
  ASSERT_TRUE(eventually([&] { return kernel_waiters(path) == 1; }));
  auto second = waiter({"--progress=1s"}, {"sh", "-c", append, "second"});
  ASSERT_TRUE(eventually([&] { return kernel_waiters(path) == 2; }));
  EXPECT_THAT(first.err_line().value_or(""), MatchesRegex(".*(, place 1 of 2)?"));
  EXPECT_THAT(second.err_line().value_or(""), MatchesRegex(".*(, place 2 of 2)?"));
  first.signal(SIGWINCH);
  first.signal(SIGCONT);
  EXPECT_TRUE(first.err_line());
  EXPECT_TRUE(second.err_line());
  holder.release();
  EXPECT_EQ(first.wait().status, exited(0));
  EXPECT_EQ(second.wait().status, exited(0));
  EXPECT_EQ(read_file(order), "first\nsecond\n");
}

TEST_F(Waiting, AFullPipeHoldsNothingUp)
{
  const HoldingProcess holder(path);
  Start start;
  const Pipe full;
  full.fill();
  start.descriptors = {{2, full.write_end}};
  Process process(lockrun_argv({"--progress=1s", "-w", "5", path.string(), "true"}), start);
  ASSERT_TRUE(eventually([&] { return kernel_waiters(path) == 1; }));
  EXPECT_TRUE(eventually([&] { return kernel_waiters(path) == 0; })); // it has given up
}

// A file server that does not answer would keep the thread that watches the clock.
TEST_F(Waiting, NoFileServerIsAsked)
{
  if (!can_trace()) { GTEST_SKIP() << "no strace"; }
  HoldingProcess holder(path);
  const std::string trace = dir / "trace";
  Start start;
  start.err = k_pipe;
  Process waiter(traced(trace, {"-f", "-e", "trace=stat,newfstatat,statx"}, {path.string(), "true"}), start);
  EXPECT_THAT(waiter.err_line().value_or(""), HasSubstr("lockrun: waiting for"));
  holder.release();
  EXPECT_EQ(waiter.wait().status, exited(0));
  const std::string calls = read_file(trace);
  EXPECT_THAT(calls, HasSubstr("AT_STATX_DONT_SYNC"));
  EXPECT_THAT(calls, Not(ContainsRegex("stat(at)?\\([^)]*\"(/proc/[0-9]+/fd/)?[0-9]+\"")));
}

// --- a terminal ---

// A terminal of its own, in which tmux draws what a person would see.
class Terminal {
public:
  Terminal(const std::filesystem::path& directory, int columns) : m_socket(directory / "tmux")
  {
    tmux({"-f", "/dev/null", "new-session", "-d", "-x", std::to_string(columns), "-y", "10", "env PS1='ready>' sh"});
    if (!eventually([&] { return screen().find("ready>") != std::string::npos; })) {
      throw std::runtime_error("no shell in tmux");
    }
  }
  ~Terminal() { tmux({"kill-server"}); }

  void type(const std::string& line) { tmux({"send-keys", "-l", line}), press("Enter"); }
  void press(const std::string& key) { tmux({"send-keys", key}); }
  std::string screen() { return tmux({"capture-pane", "-p"}).out; }
  bool shows(const std::string& text)
  {
    return eventually([&] { return screen().find(text) != std::string::npos; });
  }
  bool hides(const std::string& text)
  {
    return eventually([&] { return screen().find(text) == std::string::npos; });
  }

private:
  Finished tmux(const std::vector<std::string>& arguments)
  {
    std::vector<std::string> argv{"tmux", "-S", m_socket.string()};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    Start start;
    start.environment = {{"TERM", "xterm"}, {"TMUX", std::nullopt}};
    return run_program(argv, start);
  }
  std::filesystem::path m_socket;
};

class LiveLine : public Waiting {
protected:
  void SetUp() override
  {
    if (run_program({"sh", "-c", "command -v tmux"}).status != exited(0)) { GTEST_SKIP() << "no tmux"; }
  }
  std::string run_in_shell(const std::string& arguments) const
  {
    return fmt::format("clear; cd '{}'; '{}' {}", dir.path().native(), lockrun_binary(), arguments);
  }
};

TEST_F(LiveLine, IsDrawnAnewAndLeavesNothing)
{
  HoldingProcess holder(path);
  Terminal terminal(dir.path(), 200);
  terminal.type(run_in_shell("-w 1h lock echo got it"));
  EXPECT_TRUE(terminal.shows(fmt::format("lockrun: waiting for 'lock', held by PID {} (", holder.pid())));
  const auto left = [&] {
    const std::string screen = terminal.screen();
    const std::size_t end = screen.find(" left");
    return end == screen.npos ? "" : screen.substr(screen.rfind(' ', end - 1), end);
  };
  EXPECT_TRUE(eventually([&] { return !left().empty(); }));
  const std::string before = left();
  EXPECT_TRUE(eventually([&] { return !left().empty() && left() != before; }));
  const std::string screen = terminal.screen();
  EXPECT_EQ(screen.find("waiting"), screen.rfind("waiting"));
  holder.release();
  EXPECT_TRUE(terminal.shows("got it\nready>"));
  EXPECT_THAT(terminal.screen(), Not(HasSubstr("waiting")));
}

TEST_F(LiveLine, FollowsTheHolder)
{
  HoldingProcess first(path);
  Terminal terminal(dir.path(), 200);
  terminal.type(run_in_shell("lock echo got it"));
  EXPECT_TRUE(terminal.shows(fmt::format("held by PID {} (", first.pid())));
  Forked second([&] {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    ::flock(fd, LOCK_SH); // a newcomer that overtakes, as the shared ones do under a shared holder
    ::pause();
    return 0;
  });
  EXPECT_TRUE(terminal.shows("place 1 of 2"));
  terminal.press("C-c");
  EXPECT_TRUE(terminal.shows("lockrun: gave up waiting for 'lock': got SIGINT"));
  EXPECT_TRUE(terminal.hides("held by"));
}

TEST_F(LiveLine, FitsIntoANarrowWindow)
{
  HoldingProcess holder(path);
  Terminal terminal(dir.path(), 40);
  terminal.type(run_in_shell("-w 1h lock echo got it"));
  const std::string line = fmt::format("lockrun: waiting for PID {}", holder.pid());
  EXPECT_TRUE(terminal.shows(line));
  // It does not wrap: drawn twice, it is there once.
  EXPECT_TRUE(eventually([&] { return terminal.screen().find("s left") == std::string::npos; }));
  holder.release();
  EXPECT_TRUE(terminal.shows("got it\nready>"));
  EXPECT_THAT(terminal.screen(), Not(HasSubstr("waiting")));
}

TEST_F(LiveLine, IsGoneAfterTheTimeLimit)
{
  const HoldingProcess holder(path);
  Terminal terminal(dir.path(), 200);
  terminal.type(run_in_shell("-w 0.7 lock echo got it"));
  EXPECT_TRUE(terminal.shows("lockrun: gave up waiting for 'lock' after 700ms, held by"));
  EXPECT_THAT(terminal.screen(), Not(HasSubstr("lockrun: waiting")));
}

TEST_F(LiveLine, IsNotDrawnInTheBackground)
{
  HoldingProcess holder(path);
  Terminal terminal(dir.path(), 200);
  terminal.type("set -m; " + run_in_shell("--progress=1s lock echo got it &"));
  EXPECT_TRUE(terminal.shows("lockrun: still waiting for 'lock' after "));
  EXPECT_TRUE(eventually([&] { return Value(terminal.screen(), ContainsRegex("after .*\nlockrun: .* after ")); }));
  holder.release();
  EXPECT_TRUE(terminal.shows("got it\n"));
}

} // namespace
} // namespace lockrun::testing
