// What is drawn, and that it is a picture for every number of calls.
#include "timeline/picture.hpp"
#include "timeline/svg.hpp"
#include "timeline/terminal.hpp"

#include "text/display_width.hpp"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::timeline {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;
using Lines = std::vector<std::string>;

constexpr WallTime k_noon = 1000 * 24h + 12h;

// Moments are drawn in local time.
[[maybe_unused]] const int k_utc = [] {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  return 0;
}();

Call call(WallTime begin, std::optional<WallTime> acquired, WallTime end, Fate fate = Fate::ran)
{
  Call one;
  one.lock = "/tmp/app.lock";
  one.command = "make -j8";
  one.pid = 7;
  one.begin = k_noon + begin;
  if (acquired) { one.acquired = k_noon + *acquired; }
  one.end = k_noon + end;
  one.fate = fate;
  return one;
}

// All come at the beginning and hold one after another; every third gives up.
std::vector<Call> crowd(int count)
{
  std::vector<Call> calls;
  for (int i = 0; i < count; ++i) {
    const bool has_it = i % 3 != 2;
    calls.push_back(call(
      0s, has_it ? std::optional<WallTime>(i * 1s) : std::nullopt, (i + 1) * 1s, has_it ? Fate::ran : Fate::timed_out));
  }
  return calls;
}

std::string drawn(const std::vector<Call>& calls, const Paper& paper = {}, const Selection& selection = {})
{
  return terminal_picture(picture_of(calls, selection), paper);
}

Lines lines_of(const std::string& text)
{
  Lines lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) { lines.push_back(line); }
  return lines;
}

// Whether every tag is closed in its turn, and no & or control character stands alone: all that can go wrong in what we
// write. `xmllint` agrees.
bool is_well_formed(const std::string& xml)
{
  Lines open;
  for (std::size_t at = 0; at < xml.size(); ++at) {
    if (static_cast<unsigned char>(xml[at]) < 0x20 && xml[at] != '\n') { return false; }
    if (xml[at] == '&') {
      const std::string name = xml.substr(at, xml.find(';', at) - at);
      if (name != "&amp" && name != "&lt" && name != "&gt") { return false; }
    }
    if (xml[at] != '<') { continue; }
    const std::size_t end = xml.find('>', at);
    if (end == std::string::npos) { return false; }
    const std::string tag = xml.substr(at + 1, end - at - 1);
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0 || tag.find('<') != std::string::npos) { return false; }
    const std::string name = tag.substr(0, tag.find(' '));
    if (name.front() == '/') {
      if (open.empty() || open.back() != name.substr(1)) { return false; }
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
    at = end;
  }
  return open.empty();
}

TEST(Pack, PutsCallsThatDoNotMeetIntoOneLane)
{
  const std::vector<Call> calls{call(0s, 0s, 2s), call(1s, 2s, 3s), call(2s, 3s, 4s), call(9s, 9s, 10s)};
  const std::vector<const Call*> all{&calls[0], &calls[1], &calls[2], &calls[3]};
  const auto lanes = pack(all, microseconds(0));
  ASSERT_EQ(lanes.size(), 2U);
  EXPECT_EQ(lanes[0], (Lane{&calls[0], &calls[2], &calls[3]}));
  EXPECT_EQ(lanes[1], (Lane{&calls[1]}));
  EXPECT_EQ(pack(all, 1s).size(), 3U);
}

TEST(Ticks, AreRoundAndFew)
{
  const auto texts = [](microseconds span, std::size_t count) {
    Picture picture;
    picture.begin = k_noon + 1s;
    picture.end = picture.begin + span;
    Lines all;
    for (const Tick& tick : ticks(picture, count)) { all.push_back(tick.text); }
    return all;
  };
  EXPECT_EQ(texts(25s, 4), (Lines{"12:00:10", "12:00:20"}));
  EXPECT_EQ(texts(1s, 4), (Lines{"0s", "+500ms", "+1s"}));
  EXPECT_EQ(texts(24h, 4), (Lines{"Sep 28", "12:00"}));
  EXPECT_EQ(texts(1ms, 4), (Lines{"0s", "+500us", "+1000us"}));
  EXPECT_EQ(texts(4ms, 4), (Lines{"0s", "+2ms", "+4ms"}));
  for (const microseconds span :
    {microseconds(1), microseconds(1s), microseconds(1h), microseconds(240000h), microseconds(87600000h)}) {
    EXPECT_LE(texts(span, 5).size(), 6U);
  }
}

TEST(TerminalPicture, ShowsWaitingHoldingAndTheOutcome)
{
  const std::string text =
    drawn({call(0s, 0s, 4s), call(1s, 4s, 8s, Fate::command_failed), call(2s, {}, 6s, Fate::busy)});
  EXPECT_EQ(text, "3 calls of 1 lock, 1972-09-27 12:00:00 to 12:00:08 UTC (8s)\n"
                  "\n"
                  "           12:00:00                         12:00:05\n"
                  "\n"
                  "/tmp/app.lock  3 calls; held 100%, waited at most 4s; 1 ran, 1 busy, 1 comman...\n"
                  "  make -j8 ███████████████████████████▌     ·                     4s\n"
                  "  make -j8 ·     ░░░░░░░░░░░░░░░░░░░░░██████████████████████████x command failed\n"
                  "  make -j8 ·            ░░░░░░░░░░░░░░░░░░░░░░░░░░░b              busy\n"
                  "\n"
                  "░ waits   █ holds   b busy   x command failed\n")
    << text;
}

TEST(TerminalPicture, FitsTheWidthWhateverTheNumberOfCalls)
{
  for (const int count : {1, 20, 100, 1000}) {
    for (const std::size_t columns : {20U, 40U, 80U, 200U}) {
      for (const Glyphs glyphs : {Glyphs::ascii, Glyphs::unicode}) {
        const Lines lines = lines_of(drawn(crowd(count), {columns, Colours::none, glyphs}));
        EXPECT_LE(lines.size(), 40U) << count;
        for (const std::string& line : lines) { EXPECT_LE(text::display_width(line), columns) << line; }
      }
    }
  }
}

TEST(TerminalPicture, FoldsManyCalls)
{
  EXPECT_THAT(drawn(crowd(24)), HasSubstr("make -j8"));
  EXPECT_THAT(drawn(crowd(1000)), HasSubstr("\n  993 waiting  █"));
  std::vector<Call> one_after_another;
  for (int i = 0; i < 1000; ++i) { one_after_another.push_back(call(i * 1min, i * 1min, i * 1min + 30s)); }
  const std::string lanes = drawn(one_after_another);
  EXPECT_THAT(lanes, Not(HasSubstr("waiting")));
  EXPECT_LE(lines_of(lanes).size(), 40U);
}

TEST(TerminalPicture, ShowsTheEndOfALongName)
{
  std::vector<Call> calls = crowd(1);
  calls[0].lock = "/srv/" + std::string(100, 'd') + "irectory/a.lock";
  EXPECT_THAT(drawn(calls), HasSubstr("\n..."));
  EXPECT_THAT(drawn(calls), HasSubstr("ddirectory/a.lock  1 call"));
}

TEST(TerminalPicture, LeavesOpenWhatHasNoEnd)
{
  const std::vector<Call> calls{call(0s, 0s, 8s, Fate::open)};
  EXPECT_THAT(drawn(calls), HasSubstr("█▸"));
  EXPECT_THAT(drawn(calls, {80, Colours::none, Glyphs::ascii}), HasSubstr("#>"));
  EXPECT_THAT(drawn(calls), HasSubstr("no end seen"));
}

TEST(TerminalPicture, HasOnlyAsciiWhereThereIsNothingElse)
{
  std::vector<Call> calls = crowd(1000);
  calls[0].command = calls[0].lock = "\u65e5\u672c\x1b[31m";
  for (const char byte : drawn(calls, {80, Colours::none, Glyphs::ascii})) {
    EXPECT_TRUE(byte == '\n' || (byte >= ' ' && byte <= '~'));
  }
}

TEST(TerminalPicture, HasColoursOnlyWhenAsked)
{
  EXPECT_THAT(drawn(crowd(5)), Not(HasSubstr("\x1b")));
  EXPECT_THAT(drawn(crowd(5), {80, Colours::ansi, Glyphs::unicode}), HasSubstr("\x1b[32m█"));
}

TEST(Selection, TakesTheLocksAndTheTimeThatAreAskedFor)
{
  std::vector<Call> calls{call(0s, 0s, 1s), call(5s, 5s, 6s), call(9s, 9s, 10s)};
  calls[2].lock = "other";
  EXPECT_EQ(picture_of(calls, {}).calls, 3U);
  EXPECT_EQ(picture_of(calls, {"app", {}}).calls, 2U);
  EXPECT_EQ(picture_of(calls, {"", 5s}).calls, 2U);
  EXPECT_EQ(picture_of(calls, {"", 5s}).begin, k_noon + 5s);
  EXPECT_EQ(drawn(calls, {}, {"nobody", {}}), "no calls\n");
}

TEST(SvgPicture, IsWellFormedWhateverIsInIt)
{
  ASSERT_FALSE(is_well_formed("<a><b></a></b>"));
  ASSERT_FALSE(is_well_formed("<a>&</a>"));
  std::vector<Call> calls{call(0s, 1s, 2s)};
  calls[0].lock = "<&>\"'\x01\xff]]>\xef\xbf\xbf";
  calls[0].command = "</text><script>&lt;\n\x1b[31m-->";
  calls[0].details = "<!--";
  for (int fate = 0; fate < k_fates; ++fate) { calls.push_back(call(0s, {}, 3s, static_cast<Fate>(fate))); }
  const std::string svg = svg_picture(picture_of(calls, {}), 1200);
  EXPECT_TRUE(is_well_formed(svg)) << svg;
  EXPECT_THAT(svg, HasSubstr("&lt;/text&gt;&lt;script&gt;&amp;lt;"));
  EXPECT_TRUE(is_well_formed(svg_picture(picture_of({}, {}), 1200)));
}

TEST(SvgPicture, HasATooltipForEveryCall)
{
  for (const int count : {1, 20, 1000}) {
    const std::string svg = svg_picture(picture_of(crowd(count), {}), 1200);
    EXPECT_TRUE(is_well_formed(svg));
    std::size_t tooltips = 0;
    for (std::size_t at = 0; (at = svg.find("\"><title>", at)) != std::string::npos; ++at) { ++tooltips; }
    EXPECT_EQ(tooltips, static_cast<std::size_t>(count));
  }
}

} // namespace
} // namespace lockrun::timeline
