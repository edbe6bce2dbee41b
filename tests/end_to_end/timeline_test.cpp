// lockrun-timeline: draws the calls that left their events.
#include "support/held_lock.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "support/terminal.hpp"

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

Start in_plain_english()
{
  Start start;
  start.environment = {{"LC_ALL", "C.UTF-8"}, {"COLUMNS", std::nullopt}, {"TZ", "UTC"}};
  return start;
}

// It is installed beside lockrun, and built there.
std::string timeline_binary()
{
  return std::filesystem::path(lockrun_binary()).parent_path() / "lockrun-timeline";
}

Finished timeline(Words arguments, const Start& start = in_plain_english())
{
  arguments.insert(arguments.begin(), timeline_binary());
  return run_program(arguments, start);
}

class Timeline : public ::testing::Test {
protected:
  // One call that runs, one that fails, one that is busy, and one that leaves the lock to its command.
  Timeline()
  {
    EXPECT_EQ(call({lock, "true"}).status, exited(0));
    EXPECT_EQ(call({lock, "sh", "-c", "exit 3"}).status, exited(3));
    {
      const HeldLock held(lock, Mode::exclusive);
      EXPECT_EQ(call({"-n", lock, "echo", "<busy & \"bee\">"}).status, exited(75));
    }
    EXPECT_EQ(call({"-F", dir / "other", "true"}).status, exited(0));
  }
  Finished call(const Words& arguments) const
  {
    Words words{"--events", events};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return run_lockrun(words);
  }

  const TempDir dir;
  const std::string lock = dir / "app.lock";
  const std::string events = dir / "events";
};

TEST_F(Timeline, DrawsWhatHappened)
{
  const Finished drawn = timeline({"--width", "200", events});
  EXPECT_EQ(drawn.status, exited(0));
  EXPECT_THAT(drawn.out, StartsWith("4 calls of 2 locks, "));
  EXPECT_THAT(drawn.out, HasSubstr("1 ran, 1 busy, 1 command failed"));
  EXPECT_THAT(drawn.out, HasSubstr("echo <busy & \"bee\">"));
  EXPECT_THAT(drawn.out, HasSubstr("exit 3"));
  EXPECT_THAT(drawn.out, HasSubstr("no end seen"));
  EXPECT_THAT(drawn.out, Not(HasSubstr("\x1b")));
  EXPECT_EQ(drawn.err, "");
}

TEST_F(Timeline, ReadsStandardInputAndSeveralFiles)
{
  Start start = in_plain_english();
  start.in = to_file(events);
  EXPECT_THAT(timeline({}, start).out, StartsWith("4 calls of 2 locks, "));
  EXPECT_THAT(timeline({events, "-"}, start).out, StartsWith("8 calls of 2 locks, "));
  EXPECT_THAT(timeline({"--lock", "other", events}, start).out, StartsWith("1 call of 1 lock, "));
}

TEST_F(Timeline, DrawsAnSvg)
{
  const std::string file = dir / "picture.svg";
  EXPECT_EQ(timeline({"--svg", file, events}).out, "");
  const std::string svg = read_file(file);
  EXPECT_THAT(svg, StartsWith("<svg xmlns="));
  EXPECT_THAT(svg, HasSubstr("echo &lt;busy &amp; \"bee\"&gt;"));
  EXPECT_EQ(timeline({"--svg", "-", events}).out, svg);
}

TEST_F(Timeline, PassesOverWhatIsNoEvent)
{
  const std::string torn = read_file(events);
  const std::string file = write_file(dir / "torn", "nothing\n" + torn.substr(20, torn.size() - 40));
  const Finished drawn = timeline({file});
  EXPECT_EQ(drawn.status, exited(0));
  EXPECT_EQ(drawn.err, "lockrun-timeline: skipped 3 lines that are no event\n");
  EXPECT_THAT(drawn.out, StartsWith("3 calls of 1 lock, "));
}

TEST_F(Timeline, IsColouredOnATerminal)
{
  Start start = in_plain_english();
  start.environment["TERM"] = "xterm";
  start.environment["NO_COLOR"] = std::nullopt;
  Terminal coloured({timeline_binary(), events}, start);
  EXPECT_TRUE(coloured.await("sh -c exit 3 "));
  EXPECT_THAT(coloured.rest_of_line(), HasSubstr("\x1b[31m"));
  start.environment["NO_COLOR"] = "1";
  Terminal plain({timeline_binary(), events}, start);
  EXPECT_TRUE(plain.await("sh -c exit 3 "));
  EXPECT_THAT(plain.rest_of_line(), Not(HasSubstr("\x1b")));
}

TEST_F(Timeline, SaysWhatItCannotDo)
{
  Finished done = timeline({dir / "none", events});
  EXPECT_EQ(done.status, exited(66));
  EXPECT_THAT(done.err, HasSubstr("No such file or directory (ENOENT)\n"));
  EXPECT_THAT(done.out, StartsWith("4 calls")); // of the other file
  EXPECT_EQ(timeline({dir.path()}).status, exited(66));
  EXPECT_EQ(timeline({"--svg", dir / "none" / "x", events}).status, exited(73));
  EXPECT_EQ(timeline({"--colour"}).status, exited(64));
  EXPECT_EQ(timeline({"--last", "soon"}).status, exited(64));
  EXPECT_THAT(timeline({"--version"}).out, StartsWith("lockrun-timeline "));
  EXPECT_THAT(timeline({"--help"}).out, HasSubstr("--svg FILE"));
}

} // namespace
} // namespace lockrun::testing
