#include "timeline/read.hpp"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace lockrun::timeline {
namespace {

using namespace std::chrono_literals;

std::string event(const std::string& name, int second, const std::string& others, int pid = 7)
{
  return fmt::format(R"({{"event":"{}","time":"2026-11-23T14:00:{:02}.000000Z","lock":"/l","pid":{},"command":"c"{}}})",
    name, second, pid, others.empty() ? "" : "," + others);
}

const WallTime k_start = std::chrono::sys_days(std::chrono::year(2026) / 11 / 23).time_since_epoch() + 14h;

std::vector<Call> read(const std::vector<std::string>& lines)
{
  Reader reader;
  for (const std::string& line : lines) { reader.line(line); }
  EXPECT_EQ(reader.skipped(), 0U);
  return std::move(reader).calls();
}

TEST(Reader, PutsTheEventsOfACallTogether)
{
  const auto calls = read({event("waiting", 1, R"("waits_for":"/l")"), event("acquired", 4, R"("waited_s":3.5)"),
    event("finished", 9, R"("outcome":"ran","exit_code":3,"waited_s":3.5,"held_s":5.0)")});
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].begin, k_start + 500ms);
  EXPECT_EQ(calls[0].acquired, k_start + 4s);
  EXPECT_EQ(calls[0].end, k_start + 9s);
  EXPECT_EQ(calls[0].fate, Fate::command_failed);
  EXPECT_EQ(calls[0].details, "exit 3");
}

TEST(Reader, KnowsACallByItsLastEventAlone)
{
  const auto calls = read(
    {event("finished", 9, R"("outcome":"timed_out","waited_s":4,"held_s":null,"holder":{"pid":5,"command":"rsync"})")});
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].begin, k_start + 5s);
  EXPECT_FALSE(calls[0].acquired);
  EXPECT_EQ(calls[0].fate, Fate::timed_out);
  EXPECT_EQ(calls[0].details, "held by PID 5 (rsync)");
}

TEST(Reader, LetsAHolderThatWasKilledHoldUntilTheNextOne)
{
  const auto calls = read({event("acquired", 1, R"("waited_s":0,"mode":"exclusive")", 7),
    event("acquired", 5, R"("waited_s":0,"mode":"exclusive")", 8), event("waiting", 6, "", 9)});
  ASSERT_EQ(calls.size(), 3U);
  EXPECT_EQ(calls[0].fate, Fate::open);
  EXPECT_EQ(calls[0].end, k_start + 5s);
  EXPECT_EQ(calls[1].end, k_start + 6s);
}

TEST(Reader, LetsThoseWhoShareHoldTogether)
{
  const auto calls = read({event("acquired", 1, R"("waited_s":0,"mode":"shared")", 7),
    event("acquired", 5, R"("waited_s":0,"mode":"shared")", 8), event("waiting", 6, "", 9)});
  EXPECT_EQ(calls.at(0).end, k_start + 6s);
}

TEST(Reader, TakesAProcessIdThatComesAgainForAnotherCall)
{
  const auto calls = read({event("waiting", 1, ""), event("acquired", 30, R"("waited_s":0.1)"),
    event("finished", 31, R"("outcome":"ran","exit_code":0,"waited_s":0.1,"held_s":1.0)")});
  ASSERT_EQ(calls.size(), 2U);
  EXPECT_EQ(calls[0].fate, Fate::open);
  EXPECT_FALSE(calls[0].acquired);
  EXPECT_EQ(calls[1].fate, Fate::ran);
}

TEST(Reader, LeavesALockWithItsDescriptor)
{
  const auto calls = read({event("acquired", 1, R"("waited_s":0)"),
    event("finished", 1, R"("outcome":"ran","exit_code":0,"waited_s":0,"held_s":null)"), event("waiting", 9, "", 8)});
  EXPECT_EQ(calls.at(0).fate, Fate::open);
  EXPECT_EQ(calls.at(0).end, k_start + 9s);
}

TEST(Reader, CountsWhatIsNoEventAndGoesOn)
{
  const std::string whole = event("acquired", 1, R"("waited_s":0)");
  const std::vector<std::string> lines{"{", "null", "[1]", "{}", "\xff\xfe", std::string("{\"a\0\":1}", 8),
    whole.substr(0, whole.size() / 2), whole.substr(5), whole + whole, std::string(100000, '['), event("born", 1, ""),
    event("finished", 1, R"("outcome":"unheard of")"),
    R"({"event":"waiting","time":"2026-13-23T14:00:00Z","lock":"/l","pid":1})",
    R"({"event":"waiting","time":"2026-11-23 14:00:00","lock":"/l","pid":1})",
    R"({"event":"waiting","time":"2026-11-23T14:00:00.-1Z","lock":"/l","pid":1})",
    R"({"event":"waiting","time":7,"lock":"/l","pid":1})", R"({"event":"waiting","time":"","lock":"/l","pid":"x"})"};
  Reader reader;
  for (const std::string& line : lines) { reader.line(line); }
  EXPECT_EQ(reader.skipped(), lines.size());
  reader.line("\n"); // an empty line is nothing at all
  reader.line(whole);
  EXPECT_EQ(reader.skipped(), lines.size());
  EXPECT_EQ(std::move(reader).calls().size(), 1U);
}

TEST(Reader, BearsNumbersThatNobodyMeans)
{
  const auto calls = read({event("acquired", 1, R"("waited_s":1e308,"mode":7)"),
    event("finished", 2, R"("outcome":"ran","exit_code":1e9,"waited_s":-5,"held_s":18446744073709551615)"),
    event("finished", 3, R"("outcome":"busy","waited_s":{},"held_s":[],"holder":[],"error":0)")});
  for (const Call& call : calls) {
    EXPECT_LE(call.begin, call.acquired.value_or(call.end));
    EXPECT_LE(call.acquired.value_or(call.begin), call.end);
  }
}

} // namespace
} // namespace lockrun::timeline
