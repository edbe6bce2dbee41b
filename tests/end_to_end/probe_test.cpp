// --probe: does locking work there?
#include "end_to_end/trace.hpp"
#include "support/held_lock.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(ProbeOption, WorksOnDiskAndLeavesNothing)
{
  const TempDir dir;
  const auto told = run_lockrun({"--probe", (dir / "lock").string()});
  EXPECT_EQ(told.status, exited(0));
  EXPECT_THAT(told.out, HasSubstr("  file system  "));
  EXPECT_THAT(told.out, HasSubstr("  flock        works\n  ofd          works\n"));
  EXPECT_THAT(told.out, HasSubstr("do not see each other"));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(ProbeOption, NamesTmpfs)
{
  const TempDir dir("/dev/shm");
  const auto told = run_lockrun({"--probe", (dir / "lock").string()});
  EXPECT_EQ(told.status, exited(0));
  EXPECT_THAT(told.out, HasSubstr("tmpfs, mounted at '/dev/shm'"));
  EXPECT_THAT(told.out, HasSubstr("local, in memory"));
}

TEST(ProbeOption, LocksAnExistingFileItself)
{
  const TempDir dir;
  const auto path = write_file(dir / "data", "content");
  EXPECT_EQ(run_lockrun({"--probe", path.string()}).status, exited(0));
  EXPECT_EQ(read_file(path), "content");
  EXPECT_TRUE(is_free(path));
}

TEST(ProbeOption, OfAHeldLockTriesAFileBesideIt)
{
  const TempDir dir;
  for (const LockKind kind : {LockKind::flock, LockKind::ofd}) {
    const HoldingProcess holder(dir / "lock", Mode::exclusive, kind);
    const auto told = run_lockrun({"--probe", (dir / "lock").string()});
    EXPECT_EQ(told.status, exited(0));
    EXPECT_THAT(told.out, HasSubstr("flock        works"));
    EXPECT_THAT(told.out, HasSubstr("ofd          works"));
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
}

TEST(ProbeOption, ADirectoryHasFlockOnly)
{
  const TempDir dir;
  const auto told = run_lockrun({"--probe", dir.path().string()});
  EXPECT_EQ(told.status, exited(0));
  EXPECT_THAT(told.out, HasSubstr("flock        works\n  ofd          not tried"));
  EXPECT_EQ(run_lockrun({"--probe", "--api", "ofd", dir.path().string()}).status, exited(69));
}

TEST(ProbeOption, NamesOverlayfs)
{
  const TempDir dir;
  const std::string script = fmt::format(R"(
    mount -t tmpfs none '{0}' && cd '{0}' && mkdir lower upper work merged && : >lower/lock || exit 77
    mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged || exit 77
    '{1}' --probe merged/lock)",
    dir.path().native(), lockrun_binary());
  const auto told = run_program({"unshare", "-m", "sh", "-c", script});
  if (told.status == exited(77) || told.err.find("unshare: ") == 0) { GTEST_SKIP() << told.err; }
  EXPECT_EQ(told.status, exited(0));
  EXPECT_THAT(told.out, HasSubstr("overlay, mounted at "));
  EXPECT_THAT(told.out, HasSubstr("as in containers"));
}

// Stands in for a file system that lies or refuses: strace answers in its place.
std::string probed_with(const std::string& answer, const WaitStatus& status)
{
  const TempDir dir;
  const auto told = run_program(traced("/dev/null", {"-f", "-e", "inject=" + answer}, {"--probe", dir / "lock"}));
  EXPECT_EQ(told.status, status) << answer << told.err;
  return told.out;
}

TEST(ProbeOption, FindsOutLocksThatAreOnlyPretended)
{
  if (!can_trace()) { GTEST_SKIP() << "no strace"; }
  EXPECT_THAT(
    probed_with("flock:retval=0", exited(69)), HasSubstr("  flock        does not work: two had it at once\n"));
  // The lock that lockrun takes by default does work.
  EXPECT_THAT(
    probed_with("fcntl:retval=0", exited(0)), HasSubstr("  ofd          does not work: two had it at once\n"));
}

TEST(ProbeOption, TellsThatLocksAreRefused)
{
  if (!can_trace()) { GTEST_SKIP() << "no strace"; }
  EXPECT_THAT(probed_with("flock:error=ENOLCK", exited(69)),
    HasSubstr("  flock        does not work: No locks available (ENOLCK)\n"));
}

TEST(ProbeOption, TellsWhatItCannotOpen)
{
  const TempDir dir;
  EXPECT_EQ(run_lockrun({"--probe", (dir / "missing" / "lock").string()}).status, exited(73));
  EXPECT_EQ(run_lockrun({"--probe", "/dev/null"}).status, exited(77));
}

TEST(ProbeOption, OfANameMakesTheDirectory)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  const uid_t newcomer = lonely_user();
  Start start;
  start.before_exec = {hostile::become_user(newcomer)};
  const auto told = run_lockrun({"--probe", "name:lockrun-test-of-probe"}, start);
  EXPECT_EQ(told.status, exited(0)) << told.err;
  EXPECT_THAT(told.out, HasSubstr("'name:lockrun-test-of-probe'\n  file system  "));
  for (const std::string where : {"/run/lock/lockrun-", "/tmp/lockrun-"}) {
    const std::string place = where + std::to_string(newcomer);
    std::error_code none;
    std::filesystem::remove(place, none); // fails unless it is empty
    EXPECT_FALSE(std::filesystem::exists(place));
  }
}

TEST(ProbeOption, RefusesADescriptor)
{
  const TempDir dir;
  Start start;
  start.directory = dir.path();
  const auto told = run_lockrun({"--probe", "0"}, start);
  EXPECT_EQ(told.status, exited(64));
  EXPECT_THAT(told.err, HasSubstr("'--probe' and the descriptor '0' contradict each other"));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(ProbeOption, TakesOneLockAndNoCommand)
{
  EXPECT_EQ(run_lockrun({"--probe"}).status, exited(64));
  const auto told = run_lockrun({"--probe", "L", "true"});
  EXPECT_EQ(told.status, exited(64));
  EXPECT_THAT(told.err, HasSubstr("'--probe' and the command 'true' contradict each other"));
}

} // namespace
} // namespace lockrun::testing
