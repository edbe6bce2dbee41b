// name:NAME: where its file lies, and who may have made that place.

#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;

std::filesystem::path place_of(uid_t user)
{
  struct ::stat status {};
  if (user == 0) { return "/run/lockrun"; }
  const bool exists = ::stat("/run/lock", &status) == 0 && S_ISDIR(status.st_mode);
  const bool open_to_all = exists && (status.st_mode & 01777) == 01777;
  return (open_to_all ? "/run/lock/lockrun-" : "/tmp/lockrun-") + std::to_string(user);
}

class NamedLock : public ::testing::Test {
protected:
  NamedLock() { ::chmod(dir.path().c_str(), 0777); }
  ~NamedLock() override
  {
    std::error_code ignored;
    std::filesystem::remove(file, ignored);
    if (user != 0 && ::geteuid() == 0) { std::filesystem::remove_all(place, ignored); }
  }
  static Start as(uid_t whom)
  {
    Start start;
    if (whom != ::geteuid()) { start.before_exec = {hostile::become_user(whom)}; }
    return start;
  }
  Start as_user() const { return as(user); }
  mode_t permissions() const
  {
    struct ::stat status {};
    return ::stat(place.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
  }

  TempDir dir;
  uid_t user = ::geteuid() == 0 ? lonely_user() : ::geteuid();
  std::filesystem::path place = place_of(user);
  std::string name = "lockrun-test-" + std::to_string(::getpid());
  std::filesystem::path file = place / name;
  std::string lock = "name:" + name;
};

TEST_F(NamedLock, LiesInAPrivateDirectory)
{
  const Finished ended =
    run_lockrun({lock, "sh", "-c", "stat -c '%n %a %u' " + place.string() + "; echo $LOCKRUN_LOCK"}, as_user());
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_EQ(ended.out, place.string() + " 700 " + std::to_string(user) + "\n" + lock + "\n");
  EXPECT_TRUE(std::filesystem::exists(file));
}

TEST_F(NamedLock, LiesInAPrivateDirectoryWhateverTheUmask)
{
  Start start;
  for (const mode_t mask : {0777U, 0177U, 0200U}) {
    start.before_exec = {hostile::umask(mask)};
    if (user != ::geteuid()) { start.before_exec.push_back(hostile::become_user(user)); }
    EXPECT_EQ(run_lockrun({"--mode", "600", lock, "true"}, start).status, exited(0));
    EXPECT_EQ(permissions(), 0700U);
    std::filesystem::remove_all(place);
  }
}

// What runs in a mount namespace of its own, after `mounts`, as our user.
class ElsewhereMounted : public NamedLock {
protected:
  Finished run(const std::string& mounts)
  {
    // The program's place may be below one of those that are mounted over.
    const std::string script =
      "exec 3<\"$0\"\n" + mounts + "\ncat <&3 >/tmp/program; chmod 755 /tmp/program; exec 3<&-; exec \"$@\"";
    const Words call{"unshare", "-m", "--propagation", "private", "sh", "-c", script, lockrun_binary(), "setpriv",
      "--reuid", std::to_string(user), "--clear-groups", "/tmp/program", lock, "sh", "-c",
      "stat -c %n /tmp/lockrun-* /run/lock/lockrun* 2>/dev/null || :"};
    return run_program(call);
  }
  bool can_mount() const
  {
    return run_program({"unshare", "-m", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/run"}).status ==
           exited(0);
  }
};
TEST_F(ElsewhereMounted, LiesInTmpOnlyWhereThereIsNoRunLock)
{
  if (::geteuid() != 0 || !can_mount()) { GTEST_SKIP() << "needs root and mounts"; }
  const std::string bare = "mount -t tmpfs none /run; mount -t tmpfs -o mode=1777 none /tmp\n";
  const std::string in_tmp = "/tmp/lockrun-" + std::to_string(user) + "\n";
  EXPECT_EQ(run(bare).out, in_tmp);
  EXPECT_EQ(run(bare + ": >/run/lock").out, in_tmp);
  EXPECT_EQ(run(bare + "mkdir -m 755 /run/lock").out, in_tmp); // it is not for users
  // It may be there for other calls: two places would be two locks.
  const Finished closed = run(bare + "mkdir -m 1777 /run/lock; chmod 700 /run");
  EXPECT_EQ(closed.status, exited(77));
  EXPECT_THAT(closed.err, HasSubstr("cannot open '/run/lock': Permission denied (EACCES)"));
  EXPECT_EQ(closed.out, "");
  const Finished circular = run(bare + "ln -s lock /run/lock");
  EXPECT_EQ(circular.status, exited(77));
  EXPECT_EQ(circular.out, "");
}

// /run/lock is open to all: somebody else could make the directory first.
TEST_F(NamedLock, OfRootLiesInRun)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  const auto roots_file = place_of(0) / name;
  Start start;
  start.in = start.out = k_pipe;
  Process holder(lockrun_argv({"--unlink", lock, "sh", "-c", "echo; read line || :"}), start);
  ASSERT_TRUE(holder.out_line());
  EXPECT_FALSE(is_free(roots_file));
  holder.close_input();
  EXPECT_EQ(holder.wait().status, exited(0));
  EXPECT_FALSE(std::filesystem::exists(roots_file));
}

// A cron job and a login shell.
TEST_F(NamedLock, IsTheSameWhateverTheEnvironment)
{
  Start start = as_user();
  start.in = start.out = k_pipe;
  start.environment = {{"HOME", "/nowhere"}, {"TMPDIR", dir.path()}, {"XDG_RUNTIME_DIR", dir.path()}};
  start.directory = dir.path();
  Process holder(lockrun_argv({lock, "sh", "-c", "echo; read line || :"}), start);
  ASSERT_TRUE(holder.out_line());
  EXPECT_FALSE(is_free(file));
  Words call{"env", "-i"};
  for (const std::string& word : lockrun_argv({"-n", lock, "true"})) { call.push_back(word); }
  const Finished ended = run_program(call, as_user());
  EXPECT_EQ(ended.status, exited(75));
  EXPECT_THAT(ended.err, HasSubstr("'" + lock + "'"));
  holder.close_input();
  (void)holder.wait();
  EXPECT_EQ(run_program(call, as_user()).status, exited(0));
}

TEST_F(NamedLock, IsWaitedForAndRemovedAsAnyOther)
{
  Start start = as_user();
  start.in = start.out = k_pipe;
  Process holder(lockrun_argv({lock, "sh", "-c", "echo; read line || :"}), start);
  ASSERT_TRUE(holder.out_line());
  Process waiter(lockrun_argv({"--unlink", lock, "true"}), as_user());
  ASSERT_TRUE(eventually([&] { return kernel_waiters(file) == 1; }));
  holder.close_input();
  (void)holder.wait();
  EXPECT_EQ(waiter.wait().status, exited(0));
  EXPECT_FALSE(std::filesystem::exists(file));
}

// As by somebody who clears away what looks old.
TEST_F(NamedLock, IsWaitedForAlthoughItsDirectoryIsRemoved)
{
  for (const Words& options : {Words{}, {"--also", dir / "another"}}) {
    Start start = as_user();
    start.in = start.out = k_pipe;
    Process holder(lockrun_argv({lock, "sh", "-c", "echo; read line || :"}), start);
    ASSERT_TRUE(holder.out_line());
    Words call = options;
    call.insert(call.end(), {lock, "true"});
    Process waiter(lockrun_argv(call), as_user());
    ASSERT_TRUE(eventually([&] { return kernel_waiters(file) == 1; }));
    std::filesystem::remove_all(place);
    holder.close_input();
    (void)holder.wait();
    const Finished ended = waiter.wait();
    EXPECT_EQ(ended.status, exited(0)) << ended.err;
    EXPECT_TRUE(std::filesystem::exists(file));
  }
}

TEST_F(NamedLock, KeepsItsDirectoryLockedWhileInUse)
{
  Start start = as_user();
  start.in = start.out = k_pipe;
  Process holder(lockrun_argv({lock, "sh", "-c", "echo; read line || :"}), start);
  ASSERT_TRUE(holder.out_line());
  EXPECT_FALSE(is_free(place, Mode::exclusive));
  EXPECT_TRUE(is_free(place, Mode::shared));
  holder.signal(SIGKILL);
  EXPECT_FALSE(is_free(place, Mode::exclusive)); // the command has it still
  holder.close_input();
  (void)holder.wait();
  EXPECT_TRUE(eventually([&] { return is_free(place, Mode::exclusive); }));
}

TEST_F(NamedLock, IsHadWhileSomebodyCleansUp)
{
  ASSERT_EQ(run_lockrun({lock, "true"}, as_user()).status, exited(0));
  const HoldingProcess cleaner(place, Mode::exclusive);
  EXPECT_EQ(run_lockrun({lock, "true"}, as_user()).status, exited(0));
}

TEST_F(NamedLock, IsAnotherOneForAnotherUser)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  Start start = as(0);
  start.in = start.out = k_pipe;
  Process holder(lockrun_argv({"--unlink", lock, "sh", "-c", "echo; read line || :"}), start);
  ASSERT_TRUE(holder.out_line());
  EXPECT_EQ(run_lockrun({"-n", lock, "true"}, as_user()).status, exited(0));
  holder.close_input();
  (void)holder.wait();
}

TEST_F(NamedLock, MayBeLong)
{
  const std::string longest(255, 'x');
  EXPECT_EQ(run_lockrun({"--unlink", "name:" + longest, "true"}, as_user()).status, exited(0));
  EXPECT_EQ(run_lockrun({"name:" + longest + "x", "true"}, as_user()).status, exited(64));
}

class UnsafePlace : public NamedLock {
protected:
  void SetUp() override
  {
    if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
    std::filesystem::remove_all(place);
  }
  void expect_refused(const std::string& reason)
  {
    const Finished ended = run_lockrun({lock, "touch", dir / "ran"}, as_user());
    EXPECT_EQ(ended.status, exited(77));
    EXPECT_THAT(ended.err, HasSubstr("lockrun: cannot use the directory '" + place.string() + "': " + reason));
    EXPECT_FALSE(std::filesystem::exists(dir / "ran"));
    EXPECT_FALSE(std::filesystem::exists(file));
  }
};
TEST_F(UnsafePlace, OfAnotherUserIsRefused)
{
  std::filesystem::create_directory(place);
  ::chmod(place.c_str(), 0755);
  expect_refused("it is not this user's, or others may enter it");
}
TEST_F(UnsafePlace, ThatIsClosedToUsIsRefused)
{
  std::filesystem::create_directory(place);
  ::chmod(place.c_str(), 0700);
  expect_refused("Permission denied (EACCES)");
}
TEST_F(UnsafePlace, ThatOthersMayEnterIsRefused)
{
  for (const mode_t mode : {0701U, 0710U, 0770U, 0777U, 01777U}) {
    std::filesystem::remove_all(place);
    std::filesystem::create_directory(place);
    ASSERT_EQ(::chown(place.c_str(), user, user), 0);
    ::chmod(place.c_str(), mode);
    expect_refused("it is not this user's, or others may enter it");
  }
}
TEST_F(UnsafePlace, ThatIsASymbolicLinkIsRefused)
{
  std::filesystem::create_directory(dir / "elsewhere");
  ASSERT_EQ(::chown((dir / "elsewhere").c_str(), user, user), 0);
  ::chmod((dir / "elsewhere").c_str(), 0700);
  std::filesystem::create_directory_symlink(dir / "elsewhere", place);
  expect_refused("");
  std::filesystem::remove(place);
}
TEST_F(UnsafePlace, ThatIsAFileIsRefused)
{
  write_file(place, "");
  expect_refused("Not a directory (ENOTDIR)");
  std::filesystem::remove(place);
}

} // namespace
} // namespace lockrun::testing
