// --status: who holds it, who waits, as a table and for programs.
#include "end_to_end/trace.hpp"
#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include "sys/descriptor.hpp"

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

std::vector<std::string> lines_of(const std::string& text)
{
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) { lines.push_back(line); }
  return lines;
}

class StatusOption : public ::testing::Test {
protected:
  Finished status_of(const std::vector<std::string>& arguments, const Start& start = {}) const
  {
    std::vector<std::string> words{"--status"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return run_lockrun(words, start);
  }
  json json_of(const std::filesystem::path& lock) const
  {
    return json::parse(status_of({"--json", lock.string()}).out);
  }

  const TempDir dir;
  const std::filesystem::path path = dir / "lock";
};

TEST_F(StatusOption, AMissingLockIsFreeAndIsNotMade)
{
  const auto told = status_of({path.string()});
  EXPECT_EQ(told.status, exited(0));
  EXPECT_EQ(told.err, "");
  EXPECT_THAT(told.out, MatchesRegex("LOCK +STATE .*\n" + path.string() + " +free +\\(there is no such file\\)\n"));
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(StatusOption, AFreeLockIsFree)
{
  write_file(path, "");
  const auto told = status_of({path.string()});
  EXPECT_EQ(told.status, exited(0));
  EXPECT_THAT(told.out, MatchesRegex("LOCK .*\n" + path.string() + " +free\n"));
}

TEST_F(StatusOption, ShowsTheHolderAndThoseWhoWait)
{
  const HoldingProcess holder(path);
  const Forked waiter([&] { return ::flock(::open(path.c_str(), O_RDONLY), LOCK_SH); });
  ASSERT_TRUE(eventually([&] { return kernel_waiters(path) == 1; }));
  const auto told = status_of({path.string()});
  EXPECT_EQ(told.status, exited(75));
  const auto lines = lines_of(told.out);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_THAT(lines[0], MatchesRegex("LOCK +STATE +PID +USER +HELD FOR +COMMAND"));
  EXPECT_THAT(lines[1],
    MatchesRegex(fmt::format("{} +exclusive +{} +[a-z]+ +at most [0-9.]+m?s +[^ ].*", path.native(), holder.pid())));
  EXPECT_THAT(lines[2], MatchesRegex(fmt::format(" +waits 1 +{} +[a-z]+ +[^ ].*", waiter.pid())));
  // The columns stand under each other.
  EXPECT_EQ(lines[0].find("PID"), lines[2].find(std::to_string(waiter.pid())));
}

TEST_F(StatusOption, TellsSeveralAndFailsIfAnyIsHeld)
{
  const HoldingProcess holder(dir / "b", Mode::shared);
  const auto told = status_of({(dir / "a").string(), (dir / "b").string(), (dir / "c").string()});
  EXPECT_EQ(told.status, exited(75));
  const auto lines = lines_of(told.out);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_THAT(lines[1], MatchesRegex(".*/a +free.*"));
  EXPECT_THAT(lines[2], MatchesRegex(".*/b +shared.*"));
  EXPECT_THAT(lines[3], MatchesRegex(".*/c +free.*"));
}

TEST_F(StatusOption, TheStatusOfAHeldLockCanBeChosen)
{
  const HoldingProcess holder(path);
  EXPECT_EQ(status_of({"-E", "3", path.string()}).status, exited(3));
  EXPECT_EQ(status_of({"-E", "0", path.string()}).status, exited(0));
}

TEST_F(StatusOption, OfWhatCannotBeToldTheFailureCounts)
{
  const HoldingProcess holder(path);
  const auto told = status_of({(path / "below").string(), path.string()});
  EXPECT_EQ(told.status, exited(73));
  EXPECT_THAT(told.err, HasSubstr("Not a directory (ENOTDIR)"));
  EXPECT_THAT(told.out, HasSubstr("exclusive"));
}

TEST_F(StatusOption, KnowsNamesAndDescriptors)
{
  const sys::Descriptor fd(::open(path.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0600));
  Start start;
  start.descriptors = {{7, fd.get()}};
  EXPECT_EQ(status_of({"7"}, start).status, exited(0));
  const HoldingProcess holder(path);
  EXPECT_EQ(status_of({"7"}, start).status, exited(75));
  EXPECT_EQ(status_of({"9"}, start).status, exited(65));
  EXPECT_EQ(status_of({"name:lockrun-test-of-a-free-name"}).status, exited(0));
}

TEST_F(StatusOption, TellsProgramsEverything)
{
  Start start;
  start.in = k_pipe;
  Process holder(lockrun_argv({path.string(), "sh", "-c", "read line", "\xff"}), start);
  ASSERT_TRUE(eventually([&] { return is_stamped(path); }));
  const Forked waiter([&] { return ::flock(::open(path.c_str(), O_RDONLY), LOCK_SH); });
  ASSERT_TRUE(eventually([&] { return kernel_waiters(path) == 1; }));
  const json told = json_of(path);
  EXPECT_EQ(told.at("lock"), path.string());
  EXPECT_EQ(told.at("state"), "exclusive");
  EXPECT_EQ(told.at("api"), "flock");
  ASSERT_EQ(told.at("holders").size(), 1U);
  const json& first = told.at("holders").at(0);
  EXPECT_EQ(first.at("pid"), holder.pid());
  EXPECT_TRUE(first.at("user").is_string());
  EXPECT_THAT(first.at("command").get<std::string>(), ::testing::StartsWith("sh -c read line ")); // as in the table
  EXPECT_THAT(
    first.at("since").get<std::string>(), MatchesRegex("20[0-9]+-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9]+\\.[0-9]+Z"));
  EXPECT_EQ(first.at("since_kind"), "acquired");
  EXPECT_TRUE(first.at("held_s").is_number());
  EXPECT_GE(first.at("held_s"), 0);
  EXPECT_LT(first.at("held_s"), 600);
  EXPECT_EQ(first.at("mode"), "exclusive");
  EXPECT_EQ(first.at("evidence"), "descriptor");
  EXPECT_TRUE(first.at("slot").is_null());
  ASSERT_EQ(told.at("waiters").size(), 1U);
  EXPECT_EQ(told.at("waiters").at(0).at("pid"), waiter.pid());
  EXPECT_EQ(told.at("waiters").at(0).at("mode"), "shared");
  EXPECT_EQ(told.at("waiters").at(0).at("position"), 1);
  EXPECT_EQ(told.at("waiters").at(0).at("since_kind"), "at_most");
  holder.write("\n");
  (void)holder.wait();
}

TEST_F(StatusOption, AFreeLockForProgramsIsAnObjectToo)
{
  const auto told = status_of({"--json", path.string(), dir.path().string()});
  EXPECT_EQ(told.status, exited(0));
  const auto lines = lines_of(told.out);
  ASSERT_EQ(lines.size(), 2U);
  const json free = json::parse(lines[0]);
  EXPECT_EQ(free.at("state"), "free");
  EXPECT_TRUE(free.at("api").is_null());
  EXPECT_EQ(free.at("holders"), json::array());
  EXPECT_EQ(free.at("waiters"), json::array());
  EXPECT_EQ(json::parse(lines[1]).at("lock"), dir.path().string());
}

// --- what cannot be seen is never called free ---

class FromBelow : public StatusOption, public ::testing::WithParamInterface<LockKind> {};

TEST_P(FromBelow, ALockHeldOutsideOurPidNamespaceIsHeld)
{
  const HoldingProcess holder(path, Mode::exclusive, GetParam());
  std::vector<std::string> argv{"unshare", "-pf", "--mount-proc"};
  for (const std::string& word : lockrun_argv({"--status", "--json", path.string()})) { argv.push_back(word); }
  const auto told = run_program(argv);
  if (told.err.find("unshare: ") == 0) { GTEST_SKIP() << told.err; }
  EXPECT_EQ(told.status, exited(75));
  const json seen = json::parse(told.out);
  EXPECT_THAT(seen.at("state").get<std::string>(), ::testing::AnyOf("held", "exclusive"));
  EXPECT_EQ(seen.at("holders"), json::array());
}
INSTANTIATE_TEST_SUITE_P(Kinds, FromBelow, ::testing::Values(LockKind::flock, LockKind::ofd, LockKind::posix),
  [](const auto& kind) { return name_of(kind.param); });

TEST_F(StatusOption, AFileThatMayNotBeOpenedIsUnknown)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  write_file(path, "", 0600);
  std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
  Start start;
  start.before_exec = {hostile::become_user(k_nobody)};
  const auto told = status_of({path.string()}, start);
  EXPECT_EQ(told.status, exited(77));
  EXPECT_THAT(told.out, HasSubstr("unknown"));
}

TEST_F(StatusOption, AnotherUsersHolderIsNamedAsTheTaker)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
  const HoldingProcess holder(path);
  Start start;
  start.before_exec = {hostile::become_user(k_nobody)};
  const auto told = status_of({path.string()}, start);
  EXPECT_EQ(told.status, exited(75));
  EXPECT_THAT(told.out,
    MatchesRegex(fmt::format("(.|\n)* exclusive +{} +root (.|\n)*this user may not look into it\\)\n", holder.pid())));
  const auto told_programs = status_of({"--json", path.string()}, start);
  const json taker = json::parse(told_programs.out).at("holders").at(0);
  EXPECT_EQ(taker.at("evidence"), "taker");
  EXPECT_TRUE(taker.at("since").is_null());
}

// To open a FIFO takes its reader's place, and its writer's data.
TEST_F(StatusOption, OpensNothingThatCannotBeLocked)
{
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const std::string other = dir / "socket";
  ASSERT_EQ(::mknod(other.c_str(), S_IFSOCK | 0600, 0), 0);
  for (const std::string& place : {path.string(), other}) {
    for (const char* const look : {"--status", "--probe"}) {
      const auto told = run_lockrun({look, place});
      EXPECT_EQ(told.status, exited(77)) << look << place;
      EXPECT_EQ(told.out, "") << look << place;
      EXPECT_THAT(told.err, HasSubstr("neither a regular file")) << look << place;
    }
  }
  if (!can_trace()) { return; }
  for (const char* const look : {"--status", "--probe"}) {
    const std::string trace = dir / "trace";
    EXPECT_EQ(run_program(traced(trace, {"-f", "-e", "trace=open,openat"}, {look, path.string()})).status, exited(77));
    EXPECT_THAT(read_file(trace), Not(HasSubstr("\"" + path.string()))) << look;
  }
}

TEST_F(StatusOption, WithoutPermissionSaysNothingOfCreating)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
  std::filesystem::create_directory(dir / "private");
  std::filesystem::permissions(dir / "private", std::filesystem::perms(0700));
  Start start;
  start.before_exec = {hostile::become_user(k_nobody)};
  const auto told = status_of({(dir / "private" / "lock").string()}, start);
  EXPECT_EQ(told.status, exited(77));
  EXPECT_THAT(told.err, HasSubstr("Permission denied (EACCES)"));
  EXPECT_THAT(told.err, ::testing::Not(HasSubstr("create")));
}

// --- usage ---

TEST_F(StatusOption, RefusesACommand)
{
  for (const std::vector<std::string>& words : {std::vector<std::string>{"L", "-c", "true"}, {"-c", "true", "L"},
         {"L", "--", "true"}, {"-u", "9"}, {"-F", "L"}, {"--hold", "command", "L"}}) {
    const auto told = status_of(words);
    EXPECT_EQ(told.status, exited(64)) << words[0];
    EXPECT_THAT(told.err, HasSubstr("'--status' and ")) << words[0];
  }
  EXPECT_EQ(status_of({"--probe", "L"}).status, exited(64));
  EXPECT_EQ(status_of({}).status, exited(64));
  EXPECT_EQ(status_of({""}).status, exited(64));
  EXPECT_EQ(run_lockrun({"--json", path.string(), "true"}).status, exited(64));
}

// A table of a thousand costs a hundred milliseconds at most; the bound here only catches what is quadratic.
TEST_F(StatusOption, IsNotLostAmongHundredsOfWaiters)
{
  HoldingProcess holder(path);
  std::vector<Forked> waiters;
  for (int i = 0; i < 300; ++i) {
    waiters.emplace_back([&] { return ::flock(::open(path.c_str(), O_RDONLY), LOCK_EX); });
  }
  ASSERT_TRUE(eventually([&] { return kernel_waiters(path) == 300; }));
  const json told = json_of(path);
  EXPECT_EQ(told.at("waiters").size(), 300U);
  EXPECT_EQ(told.at("holders").size(), 1U);
}

} // namespace
} // namespace lockrun::testing
