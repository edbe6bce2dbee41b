#include "cli/progress.hpp"

#include "lock/holder_hint.hpp"
#include "support/fake_sys.hpp"
#include "sys/lock.hpp"
#include "sys/proc.hpp"

#include <cstdio>
#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

sys::LockLine line_of(pid_t pid, bool waits)
{
  sys::LockLine line;
  line.waits = waits;
  line.pid = pid;
  line.inode = 1;
  line.device_minor = 1;
  return line;
}

class ProgressLines : public ::testing::Test {
protected:
  ProgressLines()
  {
    ::setenv("TERM", "vt100", 1);
    call.request.path = "/x";
  }

  void begin()
  {
    sys::FileStatus users;
    users.identity = {9, 9};
    kernel.answers("stat", users);
    progress.waiting(call.request);
  }

  // What the next look of the kernel takes, and how long.
  void next_look_takes(nanoseconds duration)
  {
    now += 1h;
    kernel.answers("steady_now", now);
    kernel.answers("thread_time", nanoseconds(7s));
    kernel.answers("steady_now", now); // to look among all processes, and not for too long
    kernel.answers("steady_now", now + duration);
    kernel.answers("thread_time", nanoseconds(7s + duration));
    kernel.answers("steady_now", now + duration);
  }
  void see_holder(pid_t pid)
  {
    begin();
    (void)progress.look(0s);
    kernel_shows({line_of(pid, false)});
    kernel.answers("descriptors_of", std::vector<int>{3});
    kernel.answers("descriptor_info", sys::DescriptorInfo{0, 0, 1, {line_of(pid, false)}});
    (void)progress.look(1s);
  }
  // What another line says of the holder; 0: it looks for it.
  sys::Conflict hint_at(pid_t pid)
  {
    (void)HolderHint::leave({1, 1}, pid); // of the file that the kernel shows us
    sys::Conflict conflict;
    conflict.range = last_locked();
    return conflict;
  }
  // "ofd_lock(shared, START+LENGTH, …)".
  Range last_locked() const
  {
    Range range;
    const std::string line = kernel.calls("ofd_lock").back();
    EXPECT_EQ(std::sscanf(line.c_str(), "ofd_lock(shared, %ld+%ld", &range.start, &range.length), 2) << line;
    return range;
  }
  void kernel_shows(const std::vector<sys::LockLine>& lines) { kernel.answers("all_locks", lines); }

  cli::Call call;
  cli::Reporter reporter{call};
  cli::Signals signals{sys::SignalSet{}};
  cli::Progress progress{call, reporter, signals};
  FakeSys kernel;
  nanoseconds now = 0s;
  const Error timed_out{Reason::timed_out, "/x", {}, {}};
};

TEST_F(ProgressLines, NobodyLooksInTheFirstSecond)
{
  begin();
  EXPECT_EQ(progress.look(0s), 1s);
  EXPECT_EQ(progress.look(999ms), 1ms);
  EXPECT_THAT(kernel.calls("all_locks"), IsEmpty());
  EXPECT_THAT(kernel.calls("offer_standard_error"), IsEmpty());
}

TEST_F(ProgressLines, OnATerminalNobodyLooksInTheFirst200Milliseconds)
{
  begin();
  kernel.answers("owns_terminal", true);
  EXPECT_EQ(progress.look(0s), 200ms);
  kernel.answers("owns_terminal", true);
  EXPECT_EQ(progress.look(199ms), 1ms);
  EXPECT_THAT(kernel.calls("all_locks"), IsEmpty());
}

// A file server that is dead by then would keep us on the way to the file.
TEST_F(ProgressLines, ThePathIsFollowedOnlyBeforeTheWait)
{
  begin();
  EXPECT_EQ(kernel.calls("open").size(), 1U);
  (void)progress.look(0s);
  const auto before = kernel.calls("open").size();
  const auto followed = kernel.calls("stat").size();
  (void)progress.look(1s);
  EXPECT_THAT(kernel.calls("all_locks"), Not(IsEmpty()));
  EXPECT_EQ(kernel.calls("stat").size(), followed);
  EXPECT_EQ(kernel.calls("open").size(), before + 1); // for the turn to look
}

TEST_F(ProgressLines, QuietNeverLooks)
{
  call.reporting.verbosity = cli::Verbosity::quiet;
  begin();
  EXPECT_GE(progress.look(0s), 1h);
  EXPECT_THAT(kernel.calls("owns_terminal"), IsEmpty());
}

TEST_F(ProgressLines, SaysOneLineWithoutATerminal)
{
  begin();
  (void)progress.look(0s);
  next_look_takes(0s);
  EXPECT_GE(progress.look(1s), 1h);
  EXPECT_THAT(kernel.calls("offer_standard_error"),
    ElementsAre("offer_standard_error('lockrun: waiting for '/x', held by a process that cannot be seen from here, or "
                "was until just now\n')"));
}

TEST_F(ProgressLines, SaysOneEachInterval)
{
  call.reporting.progress = 30s;
  begin();
  (void)progress.look(0s);
  EXPECT_EQ(progress.look(1s), 29s);
  EXPECT_EQ(progress.look(30s), 30s);
  EXPECT_EQ(progress.look(60s + 5ms), 30s - 5ms);
  const auto said = kernel.calls("offer_standard_error");
  ASSERT_EQ(said.size(), 3U);
  EXPECT_THAT(said[0], HasSubstr("lockrun: waiting for '/x', "));
  EXPECT_THAT(said[1], HasSubstr("lockrun: still waiting for '/x' after 30s, "));
  EXPECT_THAT(said[2], HasSubstr("lockrun: still waiting for '/x' after 1m, "));
}

TEST_F(ProgressLines, TellsThePlaceInTheQueue)
{
  begin();
  (void)progress.look(0s);
  kernel_shows({line_of(5, false), line_of(6, true), line_of(7, true), line_of(8, true)});
  kernel.answers("process_id", pid_t{1}); // to see what is behind the descriptor
  kernel.answers("process_id", pid_t{7});
  kernel.answers("process_id", pid_t{7});
  kernel.answers("descriptors_of", std::vector<int>{3});
  kernel.answers("descriptor_info", sys::DescriptorInfo{0, 0, 1, {line_of(5, false)}});
  (void)progress.look(1s);
  EXPECT_THAT(kernel.calls("offer_standard_error").back(), HasSubstr(", place 2 of 3\n"));
}

TEST_F(ProgressLines, OthersTurnsAreWaitedForButNotForLong)
{
  begin();
  (void)progress.look(0s);
  for (int i = 0; i < 4; ++i) { kernel.answers("flock", sys::Attempt::busy); }
  EXPECT_EQ(progress.look(1s), 400ms);
  EXPECT_EQ(progress.look(1400ms), 800ms);
  EXPECT_EQ(progress.look(2200ms), 1600ms);
  EXPECT_THAT(kernel.calls("offer_standard_error"), IsEmpty());
  EXPECT_GE(progress.look(3800ms), 1h);
  EXPECT_THAT(kernel.calls("offer_standard_error"), ElementsAre("offer_standard_error('lockrun: waiting for '/x'\n')"));
  EXPECT_THAT(kernel.calls("all_locks"), IsEmpty());
}

TEST_F(ProgressLines, LooksForOnePercentOfTheTime)
{
  begin();
  for (int i = 0; i < 20; ++i) { kernel.answers("owns_terminal", true); }
  (void)progress.look(0s);
  next_look_takes(20ms);
  EXPECT_EQ(progress.look(200ms), 1s); // it draws each second all the same
  kernel.answers("steady_now", now + 1020ms);
  kernel.answers("steady_now", now + 1020ms);
  EXPECT_EQ(progress.look(1200ms), 1s);
  EXPECT_EQ(kernel.calls("all_processes").size(), 1U);
  EXPECT_EQ(kernel.calls("offer_standard_error").size(), 2U);
  kernel.answers("steady_now", now + 2020ms);
  kernel.answers("steady_now", now + 2020ms);
  kernel.answers("steady_now", now + 2040ms);
  kernel.answers("steady_now", now + 2040ms);
  (void)progress.look(2200ms);
  EXPECT_EQ(kernel.calls("all_processes").size(), 2U);
}

TEST_F(ProgressLines, KeepsItsTurnForAHundredTimesTheLookAndGivesItBack)
{
  begin();
  (void)progress.look(0s);
  const int before = open_descriptors();
  next_look_takes(5ms);
  EXPECT_EQ(progress.look(1s), 500ms);
  EXPECT_EQ(open_descriptors(), before + 1);
  kernel.answers("steady_now", now + 505ms);
  (void)progress.look(1500ms);
  EXPECT_EQ(open_descriptors(), before);
}

// As often as its turn is to be given back, which with a short list of locks is soon.
TEST_F(ProgressLines, ALookThatComesEarlyNeitherDrawsNorLooks)
{
  begin();
  for (int i = 0; i < 20; ++i) { kernel.answers("owns_terminal", true); }
  (void)progress.look(0s);
  next_look_takes(1ms);
  EXPECT_EQ(progress.look(200ms), 100ms); // to give its turn back
  kernel.answers("steady_now", now + 101ms);
  EXPECT_EQ(progress.look(300ms), 900ms);
  EXPECT_EQ(progress.look(301ms), 899ms);
  EXPECT_EQ(kernel.calls("all_processes").size(), 1U);
  EXPECT_EQ(kernel.calls("offer_standard_error").size(), 1U);
  kernel.answers("steady_now", now + 1s);
  (void)progress.look(1200ms);
  EXPECT_EQ(kernel.calls("all_processes").size(), 2U);
  EXPECT_EQ(kernel.calls("offer_standard_error").size(), 2U);
}

// One of many that look at the same time has done so already.
TEST_F(ProgressLines, WithoutATurnTheHintOfAnotherCallNamesTheHolder)
{
  begin();
  (void)progress.look(0s);
  kernel.answers("flock", sys::Attempt::busy);
  kernel.answers("ofd_conflict", std::optional(hint_at(5)));
  kernel.answers("descriptors_of", std::vector<int>{3});
  kernel.answers("descriptor_info", sys::DescriptorInfo{0, 0, 1, {line_of(5, false)}});
  kernel.answers("command_line", std::string("rsync\0-a\0", 9));
  EXPECT_GE(progress.look(1s), 1h);
  EXPECT_THAT(kernel.calls("offer_standard_error"),
    ElementsAre(HasSubstr("lockrun: waiting for '/x', held by PID 5 (rsync -a, user 0)")));
  EXPECT_THAT(kernel.calls("all_locks"), IsEmpty());
}

TEST_F(ProgressLines, TheLastWordsUseWhatTheWaitHasSeen)
{
  see_holder(5);
  kernel.answers("descriptors_of", std::vector<int>{3});
  kernel.answers("descriptor_info", sys::DescriptorInfo{0, 0, 1, {line_of(5, false)}});
  const auto looks = kernel.calls("all_locks").size();
  const auto seen = progress.with_holders(timed_out).seen;
  ASSERT_TRUE(seen);
  ASSERT_EQ(seen->holders.size(), 1U);
  EXPECT_EQ(seen->holders.front().pid, 5);
  EXPECT_EQ(kernel.calls("all_locks").size(), looks);
}

TEST_F(ProgressLines, TheLastWordsDoNotNameAHolderThatHasGone)
{
  see_holder(5);
  const auto looks = kernel.calls("all_locks").size();
  const auto seen = progress.with_holders(timed_out).seen;
  ASSERT_TRUE(seen);
  EXPECT_THAT(seen->holders, IsEmpty());
  EXPECT_GT(kernel.calls("all_locks").size(), looks);
}

TEST_F(ProgressLines, WhileAnotherCallLooksTheLastWordsWaitForItsHintButNotForLong)
{
  begin();
  const std::optional<sys::Conflict> none;
  for (int i = 0; i < 3; ++i) {
    kernel.answers("ofd_conflict", none);                      // no hint
    kernel.answers("ofd_conflict", std::optional(hint_at(0))); // it is being looked for
  }
  kernel.answers("ofd_conflict", none);
  kernel.answers("ofd_conflict", std::optional(hint_at(0)));
  for (const auto moment : {0ms, 10ms, 20ms, 30ms}) { kernel.answers("steady_now", nanoseconds(moment)); }
  kernel.answers("ofd_conflict", std::optional(hint_at(0)));
  EXPECT_FALSE(progress.with_holders(timed_out).seen);
  EXPECT_THAT(kernel.calls("all_locks"), IsEmpty());
  EXPECT_EQ(kernel.calls("wait_signal").size(), 3U);
}

TEST_F(ProgressLines, AStoppedCallKeepsNobodyFromLooking)
{
  begin();
  for (int i = 0; i < 4; ++i) { kernel.answers("flock", sys::Attempt::busy); }
  for (const auto moment : {0ms, 10ms, 20ms, 30ms}) { kernel.answers("steady_now", nanoseconds(moment)); }
  EXPECT_TRUE(progress.with_holders(timed_out).seen);
  EXPECT_THAT(kernel.calls("all_locks"), Not(IsEmpty()));
}

TEST_F(ProgressLines, QuietDoesNotLookForTheLastWords)
{
  call.reporting.verbosity = cli::Verbosity::quiet;
  begin();
  EXPECT_FALSE(progress.with_holders(timed_out).seen);
  EXPECT_THAT(kernel.calls("all_locks"), IsEmpty());
}

TEST_F(ProgressLines, TheEndGivesTheTurnBackAndCleansTheTerminal)
{
  begin();
  kernel.answers("owns_terminal", true);
  (void)progress.look(0s);
  const int before = open_descriptors();
  kernel.answers("owns_terminal", true);
  next_look_takes(5ms);
  (void)progress.look(200ms);
  kernel.answers("owns_terminal", true);
  progress.end();
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(kernel.calls("offer_standard_error").back(), "offer_standard_error('\r\x1b[K')");
  const auto said = kernel.calls("offer_standard_error").size();
  progress.end();
  EXPECT_EQ(kernel.calls("offer_standard_error").size(), said);
}

TEST_F(ProgressLines, DrawsNothingOnADumbTerminal)
{
  ::setenv("TERM", "dumb", 1);
  begin();
  kernel.answers("owns_terminal", true);
  (void)progress.look(0s);
  kernel.answers("owns_terminal", true);
  (void)progress.look(1s);
  EXPECT_THAT(kernel.calls("offer_standard_error"), ElementsAre(Not(HasSubstr("\r"))));
}

TEST_F(ProgressLines, InTheBackgroundNothingIsTakenOffTheTerminal)
{
  begin();
  kernel.answers("owns_terminal", true);
  (void)progress.look(0s);
  kernel.answers("owns_terminal", true);
  (void)progress.look(200ms);
  const auto drawn = kernel.calls("offer_standard_error").size();
  progress.end(); // it does not own the terminal any more
  EXPECT_EQ(kernel.calls("offer_standard_error").size(), drawn);
}

TEST_F(ProgressLines, ALineThatWasLeftBehindIsNotTakenOffLater)
{
  begin();
  kernel.answers("owns_terminal", true);
  (void)progress.look(0s);
  kernel.answers("owns_terminal", true);
  (void)progress.look(200ms);
  (void)progress.look(400ms); // in the background
  kernel.answers("owns_terminal", true);
  const auto said = kernel.calls("offer_standard_error").size();
  progress.end();
  EXPECT_EQ(kernel.calls("offer_standard_error").size(), said);
}

TEST_F(ProgressLines, AShortLineCountsTheOthers)
{
  begin();
  kernel.answers("owns_terminal", true);
  (void)progress.look(0s);
  kernel.answers("owns_terminal", true);
  kernel.answers("terminal_columns", std::optional<unsigned>(66));
  std::vector<sys::LockLine> lines;
  for (const pid_t pid : {5, 6, 7, 8}) {
    lines.push_back(line_of(pid, false));
    lines.back().mode = Mode::shared;
    kernel.answers("descriptors_of", std::vector<int>{3});
    kernel.answers("descriptor_info", sys::DescriptorInfo{0, 0, 1, {lines.back()}});
    kernel.answers("command_line", std::string("rsync\0-a\0/srv\0/backup\0", 22));
  }
  kernel_shows(lines);
  (void)progress.look(200ms);
  EXPECT_EQ(kernel.calls("offer_standard_error").back(),
    "offer_standard_error('\rlockrun: waiting for '/x', held by PID 5 (rsync ...) and 3 more\x1b[K')");
}

struct WidthRow {
  const char* name;
  unsigned columns;
  const char* line;
};
constexpr WidthRow k_width_rows[] = {
  {"wide", 122, "lockrun: waiting for '/x', held by PID 5 (rsync -a /srv /backup, user 0) for at most 3m12s, 1m left"},
  {"usual", 82, "lockrun: waiting for '/x', held by PID 5 (rsync ...) for at most 3m12s, 1m left"},
  {"smaller", 72, "lockrun: waiting for '/x', held by PID 5 for at most 3m12s, 1m left"},
  {"small", 62, "lockrun: waiting for '/x', held by PID 5, 1m left"},
  {"narrow", 42, "lockrun: waiting for PID 5"},
  {"narrower", 22, "lockrun: waiting..."},
  {"hardly_there", 4, "."},
};
class Widths : public ProgressLines, public ::testing::WithParamInterface<WidthRow> {};

TEST_P(Widths, TheLineTellsWhatFits)
{
  call.request.patience = 60s;
  begin();
  kernel.answers("owns_terminal", true);
  (void)progress.look(0s);
  kernel.answers("owns_terminal", true);
  kernel.answers("terminal_columns", std::optional<unsigned>(GetParam().columns));
  kernel_shows({line_of(5, false)});
  kernel.answers("descriptors_of", std::vector<int>{3});
  kernel.answers("descriptor_info", sys::DescriptorInfo{0, 0, 1, {line_of(5, false)}});
  kernel.answers("command_line", std::string("rsync\0-a\0/srv\0/backup\0", 22));
  for (int i = 0; i < 20; ++i) { kernel.answers("wall_now", nanoseconds(1'800'000'000s)); }
  kernel.answers("elapsed_now", nanoseconds(192s));
  (void)progress.look(200ms);
  EXPECT_EQ(kernel.calls("offer_standard_error").back(),
    "offer_standard_error('\r" + std::string(GetParam().line) + "\x1b[K')");
}
INSTANTIATE_TEST_SUITE_P(
  Table, Widths, ::testing::ValuesIn(k_width_rows), [](const auto& row) { return row.param.name; });

TEST_F(ProgressLines, AStuckWaitEndsTheProcessWithTheStatusOfATimeOut)
{
  call.request.patience = 5s;
  call.conflict_exit_code = 9;
  begin();
  try {
    progress.stuck({Reason::timed_out, "/x", {}});
    FAIL();
  } catch (const ExitNow& exit) {
    EXPECT_EQ(exit.status, 9);
  }
  EXPECT_THAT(
    kernel.calls("offer_standard_error").front(), HasSubstr("lockrun: gave up waiting for '/x' after 5s, held by"));
  EXPECT_THAT(kernel.calls("stat"), Not(::testing::Contains(HasSubstr("'/x'")))); // which might never come back
}

} // namespace
} // namespace lockrun::testing
