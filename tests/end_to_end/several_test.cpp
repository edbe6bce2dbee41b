// The section "Several locks" of the manual.

#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

namespace lockrun::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

ino_t number_of(const fs::path& path)
{
  struct ::stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

class Several : public ::testing::Test {
protected:
  // Three files in the order in which they are locked.
  Several()
  {
    for (const char* const name : {"a", "b", "c"}) { files.push_back(write_file(dir / name, "")); }
    std::sort(
      files.begin(), files.end(), [](const fs::path& x, const fs::path& y) { return number_of(x) < number_of(y); });
    piped.in = piped.out = k_pipe;
  }

  const std::string& first() const { return files[0]; }
  const std::string& second() const { return files[1]; }
  const std::string& third() const { return files[2]; }

  // Says "in" when it has the locks, and ends when it is let go.
  Process hold(Words arguments) const
  {
    arguments.insert(arguments.end(), {"sh", "-c", "echo in; read go"});
    return Process(lockrun_argv(arguments), piped);
  }
  static WaitStatus end(Process& process)
  {
    process.write("\n");
    return process.wait().status;
  }
  static bool has_waiters(const std::string& lock, int count)
  {
    return eventually([&] { return kernel_waiters(lock) == count; });
  }

  const TempDir dir;
  std::vector<std::string> files;
  Start piped;
};

TEST_F(Several, AllAreHeldEachInItsMode)
{
  Process holder = hold({"--also", third(), "--also-shared", second(), first()});
  ASSERT_EQ(holder.out_line(), "in");
  EXPECT_FALSE(is_free(first(), Mode::shared));
  EXPECT_FALSE(is_free(second()));
  EXPECT_TRUE(is_free(second(), Mode::shared));
  EXPECT_FALSE(is_free(third(), Mode::shared));
  EXPECT_EQ(end(holder), exited(0));
  for (const std::string& file : files) { EXPECT_TRUE(is_free(file)); }
}

TEST_F(Several, TheCommandInheritsThemAll)
{
  for (const char* const option : {"-F", "--hold=command"}) {
    Process holder = hold({option, "--also", third(), first()});
    ASSERT_EQ(holder.out_line(), "in");
    EXPECT_FALSE(is_free(first()));
    EXPECT_FALSE(is_free(third()));
    EXPECT_EQ(end(holder), exited(0));
  }
}

TEST_F(Several, TheFirstBusyOneIsNamedAndNoneIsKept)
{
  const HoldingProcess busy(second());
  const Finished told = run_lockrun({"-n", "--also", second(), "--also", third(), first(), "echo", "ran"});
  EXPECT_EQ(told.status, exited(75));
  EXPECT_EQ(told.out, "");
  EXPECT_THAT(told.err, StartsWith("lockrun: '" + second() + "' is held by PID " + std::to_string(busy.pid())));
  EXPECT_TRUE(is_free(first()));
  EXPECT_TRUE(is_free(third()));
}

TEST_F(Several, OneTimeLimitIsForAll)
{
  const HoldingProcess busy(third());
  HoldingProcess busy_at_first(first());
  Process waiter(lockrun_argv({"-w", "250ms", "--also", third(), first(), "true"}));
  busy_at_first.release();
  const Finished told = waiter.wait();
  EXPECT_EQ(told.status, exited(75));
  EXPECT_THAT(told.err, HasSubstr("after 250ms, held by "));
}

TEST_F(Several, TheyAreTakenInAnOrderThatIsNotTheCallers)
{
  const HoldingProcess busy(second());
  for (const Words& names : {Words{first(), second(), third()}, Words{third(), second(), first()},
         Words{second(), first(), third()}, Words{second(), third(), first()}}) {
    Process waiter = hold({"--also", names[0], "--also", names[1], names[2]});
    ASSERT_TRUE(has_waiters(second(), 1));
    EXPECT_FALSE(is_free(first()));
    EXPECT_TRUE(is_free(third()));
    waiter.signal(SIGTERM);
    EXPECT_EQ(waiter.wait().status, killed(SIGTERM));
    EXPECT_TRUE(is_free(first()));
  }
}

TEST_F(Several, AFileWithSeveralNamesIsLockedOnce)
{
  fs::create_hard_link(first(), dir / "hard");
  fs::create_symlink(first(), dir / "soft");
  for (const Words& names : {Words{"--also", first(), first()}, Words{"--also", dir / "hard", first()},
         Words{"-s", "--also", first(), dir / "soft"}, Words{"--also-shared", dir / "hard", first()},
         Words{"-s", "--also-shared", first(), "--also", dir / "hard", dir / "soft"}}) {
    Process holder = hold(names);
    ASSERT_EQ(holder.out_line(), "in");
    EXPECT_EQ(kernel_locks(first()).size(), 1U);
    EXPECT_FALSE(is_free(first(), Mode::shared));
    EXPECT_EQ(end(holder), exited(0));
  }
  Process shared = hold({"-s", "--also-shared", dir / "hard", first()});
  ASSERT_EQ(shared.out_line(), "in");
  EXPECT_EQ(kernel_locks(first()).size(), 1U);
  EXPECT_TRUE(is_free(first(), Mode::shared));
  EXPECT_EQ(end(shared), exited(0));
}

// A waiter for the last one has the others; when somebody replaces one of those, it is to have the new one.
TEST_F(Several, WhenOneIsReplacedMeanwhileItStartsAgain)
{
  for (const std::size_t replaced : {0U, 1U, 2U}) {
    HoldingProcess busy(third());
    Process waiter = hold({"--also", first(), "--also", third(), second()});
    ASSERT_TRUE(has_waiters(third(), 1));
    fs::rename(write_file(dir / "new", ""), files[replaced]);
    busy.release();
    EXPECT_EQ(waiter.out_line(), "in");
    for (const std::string& file : files) { EXPECT_FALSE(is_free(file)); }
    EXPECT_EQ(end(waiter), exited(0));
    std::sort(files.begin(), files.end(), [](const auto& x, const auto& y) { return number_of(x) < number_of(y); });
  }
}

TEST_F(Several, MissingOnesAreMadeAndNamesWork)
{
  const std::string name = "name:lockrun-test-several-" + std::to_string(::getpid());
  EXPECT_EQ(run_lockrun({"--unlink", "--also", name, "--also", dir / "new", first(), "true"}).status, exited(0));
  const Finished told = run_lockrun({"--also", dir / "no/such", first(), "true"});
  EXPECT_EQ(told.status, exited(73));
  EXPECT_THAT(told.err, StartsWith("lockrun: cannot open '" + (dir / "no/such").string() + "'"));
  EXPECT_EQ(run_lockrun({"--no-create", "--also", dir / "missing", first(), "true"}).status, exited(66));
}

TEST_F(Several, FairOnesQueueForOneAfterTheOther)
{
  HoldingProcess busy(third());
  Process both = hold({"--fair", "--also", third(), first()});
  ASSERT_TRUE(has_waiters(third(), 1));
  Process behind = hold({"--fair", third()});
  ASSERT_TRUE(has_waiters(third(), 2));
  EXPECT_EQ(run_lockrun({"--fair", "-n", "-q", first(), "true"}).status, exited(75));
  busy.release();
  EXPECT_EQ(both.out_line(), "in");
  EXPECT_EQ(end(both), exited(0));
  EXPECT_EQ(behind.out_line(), "in");
  EXPECT_EQ(end(behind), exited(0));
}

TEST_F(Several, ACallInsideOneOfThemIsNested)
{
  const auto inside = [&](const Words& options) {
    Words words{first(), lockrun_binary()};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--also", first(), second(), "echo", "ran"});
    return run_lockrun(words);
  };
  const Finished refused = inside({});
  EXPECT_EQ(refused.status, exited(75));
  EXPECT_THAT(refused.err, StartsWith("lockrun: '" + first() + "' is held by"));
  EXPECT_EQ(inside({"--nested", "run"}).out, "ran\n");
}

TEST_F(Several, ThoseItCannotHaveAreRefused)
{
  EXPECT_EQ(run_lockrun({"--also", second(), "--slots", "2", first(), "true"}).status, exited(64));
  EXPECT_EQ(run_lockrun({"--also", second(), "9"}).status, exited(64));
  EXPECT_EQ(run_lockrun({"--also", second(), "--fd", "1", "true"}).status, exited(64));
}

} // namespace
} // namespace lockrun::testing
