// A file server that stops answering, before and after the command: signals and time limits hold at every step.

#include "support/eventually.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"

#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;

class SilentServer : public ::testing::Test {
protected:
  SilentServer() { std::filesystem::create_directory(dir / "mount"); }
  ~SilentServer() override
  {
    if (!server) { return; }
    server->close_input();
    (void)server->wait();
  }

  // Answers one request of that kind last, or none at all.
  bool mount(const std::string& last)
  {
    Start start;
    start.in = k_pipe;
    start.out = k_pipe;
    server.emplace(Words{program("silent_server"), dir / "mount", last}, start);
    return server->out_line() == "mounted";
  }

  // `name` is the program's, "flock" or "lockrun".
  Words argv(const std::string& name, const Words& options) const
  {
    const std::string path = dir / name;
    if (!std::filesystem::exists(path)) { std::filesystem::create_symlink(lockrun_binary(), path); }
    Words words = {path};
    for (const std::string& option : options) {
      const auto at = option.find('@');
      words.push_back(
        at == option.npos ? option : option.substr(0, at) + (dir / "mount").string() + option.substr(at + 1));
    }
    words.insert(words.end(), {"touch", marker});
    return words;
  }

  void expect_that_nothing_ran() const { EXPECT_FALSE(std::filesystem::exists(marker)); }

  const TempDir dir;
  const std::string lock = dir / "lock";
  const std::string marker = dir / "marker";
  std::optional<Process> server;
};

struct Step {
  const char* name;
  const char* last_answer;
  const char* program;
  Words options; // "@" is the mounted directory
};
class BeforeTheCommand : public SilentServer, public ::testing::WithParamInterface<Step> {
protected:
  void SetUp() override
  {
    if (!mount(GetParam().last_answer)) { GTEST_SKIP() << "no FUSE for us"; }
  }
  Words argv(const Words& more) const
  {
    Words options = more;
    options.insert(options.end(), GetParam().options.begin(), GetParam().options.end());
    for (std::string& option : options) {
      if (option == "LOCAL") { option = lock; }
    }
    return SilentServer::argv(GetParam().program, options);
  }
};

TEST_P(BeforeTheCommand, TheTimeLimitHolds)
{
  const Finished ended = run_program(argv({"-w", ".2", "-E", "9"}));
  EXPECT_EQ(ended.status, exited(9));
  if (GetParam().program == std::string("lockrun")) {
    EXPECT_THAT(ended.err, HasSubstr("after 200ms, a file server does not answer\n"));
  }
  expect_that_nothing_ran();
}

TEST_P(BeforeTheCommand, ASignalEndsTheCall)
{
  for (const Words& options : {Words{}, Words{"-w", "3600"}, Words{"-n"}}) {
    for (const int signal : {SIGTERM, SIGINT}) {
      Process call(argv(options));
      ASSERT_TRUE(eventually([&] { return is_asleep(call.pid()); }));
      call.signal(signal);
      EXPECT_EQ(call.wait().status, killed(signal));
    }
  }
  expect_that_nothing_ran();
}

INSTANTIATE_TEST_SUITE_P(Table, BeforeTheCommand,
  ::testing::Values(Step{"Lookup", "", "lockrun", {"@/lock"}}, Step{"Open", "lookup", "lockrun", {"@/lock"}},
    Step{"Flock", "open", "lockrun", {"@/lock"}}, Step{"Ofd", "open", "lockrun", {"--api", "ofd", "@/lock"}},
    Step{"Also", "lookup", "lockrun", {"--also", "@/lock", "LOCAL"}},
    Step{"FlockOfAnother", "open", "lockrun", {"--also", "@/lock", "LOCAL"}},
    Step{"Events", "lookup", "lockrun", {"--events", "@/other", "LOCAL"}},
    Step{"LookupOfFlock", "", "flock", {"@/lock"}}, Step{"OpenOfFlock", "lookup", "flock", {"@/lock"}},
    Step{"FlockOfFlock", "open", "flock", {"@/lock"}}),
  [](const auto& step) { return step.param.name; });

// What is told people is told programs by the outcome.
TEST_F(SilentServer, TheEventOfATimeoutNamesNoErrorOfTheKernel)
{
  if (!mount("open")) { GTEST_SKIP() << "no FUSE for us"; }
  const std::string events = dir / "events";
  EXPECT_EQ(run_program(argv("lockrun", {"-w", ".2", "--events", events, "@/lock"})).status, exited(75));
  EXPECT_THAT(read_file(events), HasSubstr(R"("outcome":"timed_out")"));
  EXPECT_THAT(read_file(events), HasSubstr(R"("error":null)"));
}

TEST_F(SilentServer, ASignalEndsARemovalThatDoesNotComeBack)
{
  if (!mount("flock")) { GTEST_SKIP() << "no FUSE for us"; }
  const std::string events = dir / "events";
  Process call(argv("lockrun", {"--unlink", "--events", events, "@/lock"}));
  const std::string task = "/proc/" + std::to_string(call.pid()) + "/task/" + std::to_string(call.pid());
  ASSERT_TRUE(eventually([&] { // the command has ended
    return std::filesystem::exists(marker) && read_file(task + "/children").empty() && is_asleep(call.pid());
  }));
  call.signal(SIGTERM);
  EXPECT_EQ(call.wait().status, exited(0));
  EXPECT_THAT(read_file(events), HasSubstr(R"("outcome":"ran","exit_code":0)"));
}

} // namespace
} // namespace lockrun::testing
