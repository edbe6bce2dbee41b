// How the real program gets its lock: what it opens, how it waits, what it never does.

#include "end_to_end/trace.hpp"
#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/temp_dir.hpp"
#include "support/witness.hpp"

#include <chrono>
#include <csignal>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using std::filesystem::exists;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

class GettingTheLock : public ::testing::Test {
protected:
  const TempDir dir;
  const std::string lock = dir / "lock";

  bool has_waiters(int count, const std::filesystem::path& path) const
  {
    return eventually([&] { return kernel_waiters(path) == count; });
  }
  bool has_waiters(int count) const { return has_waiters(count, lock); }
};

mode_t permissions_of(const std::filesystem::path& path)
{
  struct ::stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 07777U : 0;
}

// --- the file ---

TEST_F(GettingTheLock, MakesAMissingFileWithTheUsualPermissions)
{
  for (const mode_t mask : {0022U, 0077U, 0000U}) {
    const auto path = dir / std::to_string(mask);
    Start start;
    start.before_exec = {hostile::umask(mask)};
    EXPECT_EQ(run_lockrun({path, "true"}, start).status, exited(0));
    EXPECT_EQ(permissions_of(path), 0666U & ~mask);
    EXPECT_EQ(read_file(path), "");
  }
}

TEST_F(GettingTheLock, MakesItWithExactlyTheModeThatWasAskedFor)
{
  Start start;
  start.before_exec = {hostile::umask(077)};
  const auto ended = run_lockrun({"--mode", "0664", lock, "sh", "-c", "umask"}, start);
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_EQ(permissions_of(lock), 0664U);
  EXPECT_EQ(ended.out, "0077\n"); // the command's umask is as it was
}

// With a default ACL the directory decides instead of the umask.
TEST_F(GettingTheLock, MakesItWithExactlyTheModeInADirectoryWithADefaultAcl)
{
  // The format of acl(5) in an attribute: version 2, then tag, permissions and user of each entry.
  struct Entry {
    std::uint16_t tag, permissions;
    std::uint32_t user = 0xffffffff;
  };
  struct Acl {
    std::uint32_t version = 2;
    Entry owner{1, 7}, group{4, 0}, others{32, 0};
  };
  const Acl acl;
  if (::setxattr(dir.path().c_str(), "system.posix_acl_default", &acl, sizeof acl, 0) != 0) {
    GTEST_SKIP() << "no ACLs here";
  }
  EXPECT_EQ(run_lockrun({"--mode", "0664", lock, "true"}).status, exited(0));
  EXPECT_EQ(permissions_of(lock), 0664U);
}

TEST_F(GettingTheLock, MakesItWithExactlyTheModeAlsoBehindALinkAndWithoutUnnamedFiles)
{
  std::filesystem::create_symlink("second", dir / "first");
  std::filesystem::create_symlink(lock, dir / "second");
  Start start;
  start.before_exec = {hostile::umask(0777)};
  EXPECT_EQ(run_lockrun({"--mode", "0640", dir / "first", "true"}, start).status, exited(0));
  EXPECT_EQ(permissions_of(lock), 0640U);
  if (!can_trace()) { return; }
  std::filesystem::remove(lock);
  const Words how{"-e", "inject=linkat:error=ENOENT"}; // as without /proc
  EXPECT_EQ(run_program(traced(dir / "log", how, {"--mode", "0640", lock, "true"})).status, exited(0));
  EXPECT_EQ(permissions_of(lock), 0640U);
}

// Threads of a program that uses the library would make files with it.
TEST_F(GettingTheLock, NeverChangesTheUmask)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  const std::string log = dir / "log";
  ASSERT_EQ(run_program(traced(log, {"-e", "trace=umask"}, {"--mode", "0666", lock, "true"})).status, exited(0));
  EXPECT_EQ(read_file(log), "");
}

// Another user's call would fail if it found a file that it may not open yet.
TEST_F(GettingTheLock, ShowsNobodyAFileWithoutItsMode)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  ASSERT_EQ(::chmod(dir.path().c_str(), 01777), 0);
  Start stranger;
  stranger.before_exec = {hostile::umask(0777), hostile::become_user(k_nobody)};
  Start ours;
  ours.before_exec = {hostile::umask(0777)};
  for (int round = 0; round < 20; ++round) {
    Process one(lockrun_argv({"--mode", "0666", lock, "true"}), stranger);
    Process other(lockrun_argv({"--mode", "0666", lock, "true"}), ours);
    EXPECT_EQ(one.wait().status, exited(0));
    EXPECT_EQ(other.wait().status, exited(0));
    std::filesystem::remove(lock);
  }
}

TEST_F(GettingTheLock, LeavesAFileThatIsThereAsItIs)
{
  write_file(lock, "data", 0640);
  const timespec long_ago[] = {{1000, 0}, {1000, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, lock.c_str(), static_cast<const timespec*>(long_ago), 0), 0);
  for (const Words& options : {Words{}, Words{"--fcntl"}, Words{"--api=both"}, Words{"--mode=0600"}, Words{"-s"}}) {
    Words arguments = options;
    arguments.insert(arguments.end(), {lock, "true"});
    EXPECT_EQ(run_lockrun(arguments).status, exited(0));
    struct ::stat status {};
    ASSERT_EQ(::stat(lock.c_str(), &status), 0);
    EXPECT_EQ(read_file(lock), "data");
    EXPECT_EQ(status.st_mtim.tv_sec, 1000);
    EXPECT_EQ(status.st_mode & 07777U, 0640U);
  }
}

TEST_F(GettingTheLock, OpensForReadingWithoutCreatingAndNeverTruncates)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  const std::string log = dir / "log";
  write_file(lock, "");
  ASSERT_EQ(run_program(traced(log, {"-P", lock, "-e", "trace=openat"}, {lock, "true"})).status, exited(0));
  const std::string there = read_file(log);
  EXPECT_THAT(there, HasSubstr("O_RDONLY|O_NOCTTY|O_NONBLOCK|O_CLOEXEC) = "));
  EXPECT_THAT(there, Not(HasSubstr("O_CREAT")));
  std::filesystem::remove(lock);
  ASSERT_EQ(run_program(traced(log, {"-P", lock, "-e", "trace=openat"}, {"--fcntl", lock, "true"})).status, exited(0));
  const std::string missing = read_file(log);
  EXPECT_THAT(missing, HasSubstr("O_RDWR|O_CREAT|O_NOCTTY|O_NONBLOCK|O_CLOEXEC, 0666) = "));
  EXPECT_THAT(missing, Not(HasSubstr("O_TRUNC")));
}

TEST_F(GettingTheLock, LocksADirectory)
{
  const auto ended = run_lockrun({dir.path(), lockrun_binary(), "-n", dir.path(), "true"});
  EXPECT_EQ(ended.status, exited(75));
  EXPECT_EQ(run_lockrun({dir.path(), "true"}).status, exited(0));
}

TEST_F(GettingTheLock, LocksAFileThatItMayOnlyRead)
{
  write_file(lock, "data", 0444);
  Start start;
  if (::geteuid() == 0) { start.before_exec = {hostile::become_user(k_nobody)}; }
  EXPECT_EQ(run_lockrun({lock, "true"}, start).status, exited(0));
  EXPECT_EQ(run_lockrun({"--fcntl", "-s", lock, "true"}, start).status, exited(0));
  EXPECT_EQ(run_lockrun({"--fcntl", lock, "true"}, start).status, exited(77));
}

TEST_F(GettingTheLock, FollowsALinkAlsoToAFileThatIsNotThere)
{
  std::filesystem::create_symlink("lock", dir / "link");
  EXPECT_EQ(run_lockrun({dir / "link", "true"}).status, exited(0));
  EXPECT_TRUE(exists(lock));
}

TEST_F(GettingTheLock, TakesAnotherUsersFileInAStickyDirectory)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  const auto sticky = dir / "sticky";
  std::filesystem::create_directory(sticky);
  ASSERT_EQ(::chmod(sticky.c_str(), 01777), 0);
  const std::string roots = write_file(sticky / "lock", "", 0666);
  Start start;
  start.before_exec = {hostile::become_user(k_nobody)};
  EXPECT_EQ(run_lockrun({roots, "true"}, start).status, exited(0));
  EXPECT_EQ(run_lockrun({"--fcntl", roots, "true"}, start).status, exited(0));
  const std::string nobodys = sticky / "nobodys";
  EXPECT_EQ(run_lockrun({nobodys, "true"}, start).status, exited(0));
  EXPECT_EQ(run_lockrun({nobodys, "true"}).status, exited(0)); // root may not create over it either
}

// What fs.protected_regular does to others' files, whatever it is set to here.
TEST_F(GettingTheLock, TakesAFileThatMayNotBeOpenedWithOCreat)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  const std::string log = dir / "log";
  // The first open is the one that creates.
  const Words how{"-P", lock, "-e", "inject=openat:error=EACCES:when=1"};
  EXPECT_EQ(run_program(traced(log, how, {lock, "true"})).status, exited(77));
  EXPECT_THAT(read_file(log), ContainsRegex("O_CREAT.*INJECTED"));
  EXPECT_FALSE(exists(lock));
}

TEST_F(GettingTheLock, NeverHangsOnAFifo)
{
  const std::string fifo = dir / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0666), 0);
  EXPECT_EQ(run_lockrun({fifo, "true"}).status, exited(77));
  EXPECT_EQ(run_lockrun({"--fcntl", fifo, "true"}).status, exited(77));
}

// --- a file that is executed ---

TEST_F(GettingTheLock, AScriptCanLockItself)
{
  const std::string script = dir / "script";
  write_file(script,
    "#!/bin/sh\n"
    "[ \"$LOCKRUN_PID:$LOCKRUN_LOCK\" = \"$PPID:$0\" ] || exec \"$1\" -n \"$0\" \"$0\" \"$@\"\n"
    "echo inside\n"
    "\"$1\" -n \"$0\" true\n"
    "echo $?\n",
    0755);
  const auto ended = run_program({script, lockrun_binary()});
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_EQ(ended.out, "inside\n75\n");
  EXPECT_THAT(ended.err, HasSubstr("is held by")); // and not "Text file busy"
}

TEST_F(GettingTheLock, AProgramCanBeItsOwnLock)
{
  const std::string copy = dir / "copy";
  std::filesystem::copy_file("/bin/true", copy);
  EXPECT_EQ(run_lockrun({copy, copy}).status, exited(0));
}

// --- the wrong descriptor for NFS ---

TEST_F(GettingTheLock, OpensForWritingWhenTheFileSystemWantsThat)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  write_file(lock, "data");
  const std::string log = dir / "log";
  const auto ended = run_program(traced(
    log, {"-P", lock, "-e", "trace=openat,flock", "-e", "inject=flock:error=EBADF:when=1"}, {lock, "echo", "ran"}));
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_EQ(ended.out, "ran\n");
  EXPECT_THAT(read_file(log), ContainsRegex("O_RDONLY(.|\n)*EBADF(.|\n)*O_RDWR(.|\n)*LOCK_EX.* = 0"));
  EXPECT_EQ(read_file(lock), "data");
}

// --- a lease ---

class Lease : public GettingTheLock {
protected:
  Lease()
  {
    write_file(lock, "");
    m_holder.emplace([this] {
      hostile::ignore(SIGIO)(); // the kernel says with it that somebody wants to open
      const int fd = ::open(lock.c_str(), O_RDWR | O_CLOEXEC);
      if (::fcntl(fd, F_SETLEASE, F_WRLCK) != 0) { return 1; }
      m_leased.give();
      m_end.wait();
      return 0;
    });
  }
  bool is_held() const { return m_leased.await(); }
  void end()
  {
    m_end.give();
    EXPECT_EQ(m_holder->wait(), exited(0));
  }

private:
  Notice m_leased;
  Notice m_end;
  std::optional<Forked> m_holder;
};

TEST_F(Lease, IsNotBusyButAnErrorWithoutWaiting)
{
  ASSERT_TRUE(is_held());
  const auto ended = run_lockrun({"-n", lock, "echo", "ran"});
  EXPECT_EQ(ended.status, exited(74));
  EXPECT_EQ(ended.out, "");
  EXPECT_THAT(ended.err, HasSubstr("lease"));
  end();
}

TEST_F(Lease, IsWaitedForWithinTheTimeLimit)
{
  ASSERT_TRUE(is_held());
  const auto began = steady_clock::now();
  const auto ended = run_lockrun({"-w.05", lock, "echo", "ran"});
  EXPECT_EQ(ended.status, exited(75));
  EXPECT_EQ(ended.out, "");
  EXPECT_GE(steady_clock::now() - began, milliseconds(50));
  end();
}

TEST_F(Lease, IsWaitedForUntilItIsGivenUp)
{
  ASSERT_TRUE(is_held());
  Process waiter(lockrun_argv({lock, "echo", "ran"}));
  const auto is_breaking = [&] {
    const auto lines = kernel_holders(lock);
    return lines.size() == 1 && lines[0].api == "LEASE" && is_asleep(waiter.pid());
  };
  ASSERT_TRUE(eventually(is_breaking));
  end();
  EXPECT_EQ(waiter.wait().out, "ran\n");
}

// --- waiting ---

TEST_F(GettingTheLock, WaitsInTheKernelsQueue)
{
  HoldingProcess holder(lock);
  Process waiter(lockrun_argv({lock, "echo", "ran"}));
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(waiter.out_so_far(), "");
  holder.release();
  const auto ended = waiter.wait();
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_EQ(ended.out, "ran\n");
}

struct Inheritance {
  const char* name;
  std::function<void()> hook;
};
class Hostile : public GettingTheLock, public ::testing::WithParamInterface<Inheritance> {};

TEST_P(Hostile, InheritanceDoesNotTouchTheTimeLimit)
{
  if (std::string_view(GetParam().name) == "SixDescriptors" && is_sanitized(lockrun_binary())) {
    GTEST_SKIP() << "the sanitizers need descriptors of their own";
  }
  const HoldingProcess holder(lock);
  Start start;
  start.before_exec = {GetParam().hook};
  const auto began = steady_clock::now();
  const auto ended = run_lockrun({"-w", "30ms", lock, "echo", "ran"}, start);
  EXPECT_EQ(ended.status, exited(75)) << ended.err;
  EXPECT_EQ(ended.out, "");
  EXPECT_GE(steady_clock::now() - began, milliseconds(30));
  EXPECT_LT(steady_clock::now() - began, std::chrono::seconds(60)); // flock(1) never comes back with some of these
}

TEST_P(Hostile, InheritanceDoesNotTouchWhatIsGrantedAfterAWait)
{
  if (std::string_view(GetParam().name) == "SixDescriptors" && is_sanitized(lockrun_binary())) {
    GTEST_SKIP() << "the sanitizers need descriptors of their own";
  }
  Start start;
  start.before_exec = {GetParam().hook};
  for (const Words& options : {Words{}, {"-w", "1h"}, {"-v"}, {"--fair"}, {"-F"}}) {
    HoldingProcess holder(lock);
    Words arguments = options;
    arguments.insert(arguments.end(), {lock, "echo", "ran"});
    Process waiter(lockrun_argv(arguments), start);
    ASSERT_TRUE(has_waiters(1));
    holder.release();
    const auto ended = waiter.wait();
    EXPECT_EQ(ended.status, exited(0)) << ended.err;
    EXPECT_EQ(ended.out, "ran\n");
  }
}

TEST_P(Hostile, InheritanceDoesNotTouchTheStatusOfTheCommand)
{
  Start start;
  start.before_exec = {GetParam().hook};
  EXPECT_EQ(run_lockrun({lock, "sh", "-c", "exit 6"}, start).status, exited(6));
}

INSTANTIATE_TEST_SUITE_P(Table, Hostile,
  ::testing::Values(Inheritance{"AlarmIgnored", hostile::ignore(SIGALRM)},
    Inheritance{"AlarmBlocked", hostile::block(SIGALRM)}, Inheritance{"ChildIgnored", hostile::ignore(SIGCHLD)},
    Inheritance{"ChildBlocked", hostile::block(SIGCHLD)}, Inheritance{"UrgentIgnored", hostile::ignore(SIGURG)},
    Inheritance{"UrgentBlocked", hostile::block(SIGURG)},
    Inheritance{"FirstRealTimeSignalIgnored", hostile::ignore(SIGRTMIN)},
    Inheritance{"FirstRealTimeSignalBlocked", hostile::block(SIGRTMIN)},
    Inheritance{"NoSignalIsQueued", hostile::limit(RLIMIT_SIGPENDING, 0)},
    Inheritance{"EverythingBlocked",
      [] {
        sigset_t all;
        ::sigfillset(&all);
        ::sigprocmask(SIG_SETMASK, &all, nullptr);
      }},
    Inheritance{"SixDescriptors", hostile::limit(RLIMIT_NOFILE, 6)}, Inheritance{"NewSession", hostile::new_session()}),
  [](const auto& row) { return row.param.name; });

TEST_F(GettingTheLock, WorksWithFewDescriptors)
{
  if (is_sanitized(lockrun_binary())) { GTEST_SKIP() << "the sanitizers need descriptors of their own"; }
  const HoldingProcess holder(dir / "held");
  for (rlim_t limit = 5; limit <= 12; ++limit) {
    Start start;
    start.before_exec = {hostile::limit(RLIMIT_NOFILE, limit)};
    EXPECT_EQ(run_lockrun({lock, "echo", "ran"}, start).out, "ran\n") << limit;
    EXPECT_EQ(run_lockrun({"--api=both", lock, "echo", "ran"}, start).out, "ran\n") << limit;
    EXPECT_EQ(run_lockrun({"-w.01", dir / "held", "echo", "ran"}, start).status, exited(75)) << limit;
  }
  Start start;
  start.before_exec = {hostile::limit(RLIMIT_NOFILE, 4)};
  // One is free for the lock; a command with shared libraries needs one too, so it cannot inherit.
  EXPECT_EQ(run_lockrun({"-o", lock, "echo", "ran"}, start).out, "ran\n");
}

TEST_F(GettingTheLock, KeepsItsPlaceWithATimeLimit)
{
  HoldingProcess holder(lock);
  const std::string order = dir / "order";
  const auto waiter = [&](const Words& options, const std::string& name) {
    Words arguments = options;
    arguments.insert(arguments.end(), {lock, "sh", "-c", "printf " + name + " >>" + order});
    return Process(lockrun_argv(arguments));
  };
  Process first = waiter({}, "A");
  ASSERT_TRUE(has_waiters(1));
  Process second = waiter({"-w", "1h"}, "B");
  ASSERT_TRUE(has_waiters(2));
  Process third = waiter({"-v"}, "C");
  ASSERT_TRUE(has_waiters(3));
  second.signal(SIGCHLD); // none of these ends it, none costs its place
  second.signal(SIGWINCH);
  second.signal(SIGCONT);
  holder.release();
  for (Process* const process : {&first, &second, &third}) { EXPECT_EQ(process->wait().status, exited(0)); }
  EXPECT_EQ(read_file(order), "ABC");
}

class EndingSignal : public GettingTheLock, public ::testing::WithParamInterface<int> {};

TEST_P(EndingSignal, EndsTheWaitAsItEndsAnyProgramAndNothingIsRun)
{
  const HoldingProcess holder(lock);
  Process waiter(lockrun_argv({lock, "touch", dir / "ran"}));
  ASSERT_TRUE(has_waiters(1));
  waiter.signal(GetParam());
  EXPECT_EQ(waiter.wait().status, killed(GetParam()));
  EXPECT_EQ(kernel_waiters(lock), 0);
  EXPECT_FALSE(exists(dir / "ran"));
}
INSTANTIATE_TEST_SUITE_P(Table, EndingSignal,
  ::testing::Values(SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGKILL),
  [](const auto& number) { return ::sigabbrev_np(number.param); });

TEST_F(GettingTheLock, PassesOverSignalsThatWereIgnoredWhenItStarted)
{
  HoldingProcess holder(lock);
  Start as_nohup_does;
  as_nohup_does.before_exec = {hostile::ignore(SIGHUP), hostile::ignore(SIGINT)};
  Process waiter(lockrun_argv({lock, "echo", "ran"}), as_nohup_does);
  ASSERT_TRUE(has_waiters(1));
  waiter.signal(SIGHUP);
  waiter.signal(SIGINT);
  holder.release();
  EXPECT_EQ(waiter.wait().out, "ran\n");
}

// --- what the path names in the end ---

// The lock is what the path names while the command runs.
TEST_F(GettingTheLock, NeverEndsUpWithARemovedFile)
{
  HoldingProcess holder(lock);
  const auto old = dir / "old";
  std::filesystem::create_hard_link(lock, old);
  Start start;
  start.in = start.out = k_pipe;
  Process waiter(lockrun_argv({lock, "sh", "-c", "echo inside; read line"}), start);
  ASSERT_TRUE(has_waiters(1, old));
  std::filesystem::remove(lock);
  holder.release();
  ASSERT_EQ(waiter.out_line(), "inside");
  ASSERT_TRUE(exists(lock));
  EXPECT_FALSE(is_free(lock));
  EXPECT_TRUE(is_free(old));
  waiter.close_input();
  EXPECT_EQ(waiter.wait().status, exited(1));
}

TEST_F(GettingTheLock, QueuesForTheFileThatReplacedTheOldOne)
{
  HoldingProcess holder(lock);
  Process waiter(lockrun_argv({lock, "echo", "ran"}));
  ASSERT_TRUE(has_waiters(1));
  std::filesystem::rename(lock, dir / "old");
  HoldingProcess next_holder(lock);
  holder.release();
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(waiter.out_so_far(), "");
  next_holder.release();
  EXPECT_EQ(waiter.wait().out, "ran\n");
}

TEST_F(GettingTheLock, SaysThatTheDirectoryWentAwayMeanwhile)
{
  const auto directory = dir / "directory";
  std::filesystem::create_directory(directory);
  HoldingProcess holder(directory / "lock");
  Process waiter(lockrun_argv({directory / "lock", "echo", "ran"}));
  ASSERT_TRUE(has_waiters(1, directory / "lock"));
  std::filesystem::remove_all(directory);
  holder.release();
  const auto ended = waiter.wait();
  EXPECT_EQ(ended.status, exited(73));
  EXPECT_EQ(ended.out, "");
}

// --- many at once ---

// Six processes wait for the gate and then go in five times each.
int meetings(const TempDir& dir, const Witness& witness, const std::string& go_in)
{
  Gate gate;
  Start start;
  start.descriptors = {{3, gate.read_end()}};
  start.environment = {{"VISIT", witness.visit_in_shell()}};
  start.directory = dir.path();
  const std::string loop = "read line <&3; exec 3<&-; for i in 1 2 3 4 5; do " + go_in + "; done";
  std::vector<Process> all;
  for (int i = 0; i < 6; ++i) { all.emplace_back(Words{"sh", "-c", loop, lockrun_binary()}, start); }
  gate.open();
  for (Process& process : all) { EXPECT_EQ(process.wait().status, exited(0)); }
  return witness.meetings();
}

TEST_F(GettingTheLock, LetsNobodyInWithAnother)
{
  const Witness witness(dir.path());
  EXPECT_EQ(meetings(dir, witness, R"("$0" lock sh -c "$VISIT")"), 0);
  EXPECT_EQ(witness.visits(), 30);
}

TEST_F(GettingTheLock, LetsNobodyInWithAnotherOnlyBecauseOfTheLock)
{
  const Witness witness(dir.path());
  EXPECT_TRUE(eventually([&] { return meetings(dir, witness, R"(sh -c "$VISIT")") > 0; }));
}

TEST_F(GettingTheLock, LetsSharedHoldersInTogetherAndKeepsOthersOut)
{
  Start start;
  start.in = start.out = k_pipe;
  std::vector<Process> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back(lockrun_argv({"-s", lock, "sh", "-c", "echo inside; read line; true"}), start);
    EXPECT_EQ(readers.back().out_line(), "inside");
  }
  EXPECT_EQ(run_lockrun({"-n", lock, "true"}).status, exited(75));
  for (Process& reader : readers) {
    reader.close_input();
    EXPECT_EQ(reader.wait().status, exited(0));
  }
  EXPECT_EQ(run_lockrun({"-n", lock, "true"}).status, exited(0));
}

// --- which of the kernel's locks ---

TEST_F(GettingTheLock, TakesTheKindOfLockThatWasAskedFor)
{
  struct Case {
    const char* option;
    bool flock;
    bool ofd;
  };
  for (const Case& one : {Case{"--api=flock", true, false}, Case{"--api=ofd", false, true},
         Case{"--fcntl", false, true}, Case{"--api=both", true, true}}) {
    Start start;
    start.in = start.out = k_pipe;
    Process holder(lockrun_argv({one.option, lock, "sh", "-c", "echo inside; read line; true"}), start);
    ASSERT_EQ(holder.out_line(), "inside");
    EXPECT_EQ(is_free(lock, Mode::exclusive, LockKind::flock), !one.flock) << one.option;
    EXPECT_EQ(is_free(lock, Mode::exclusive, LockKind::ofd), !one.ofd) << one.option;
    holder.close_input();
    EXPECT_EQ(holder.wait().status, exited(0));
  }
}

TEST_F(GettingTheLock, TakesARangeOfBytes)
{
  const HoldingProcess holder(lock, Mode::exclusive, LockKind::ofd, {10, 10});
  EXPECT_EQ(run_lockrun({"-n", "--start=0", "--length=10", lock, "true"}).status, exited(0));
  EXPECT_EQ(run_lockrun({"-n", "--start=20", lock, "true"}).status, exited(0));
  EXPECT_EQ(run_lockrun({"-n", "--start=19", "--length=1", lock, "true"}).status, exited(75));
  EXPECT_EQ(run_lockrun({"-n", "--start=0", "--length=0", lock, "true"}).status, exited(75));
  EXPECT_EQ(run_lockrun({"-n", lock, "true"}).status, exited(0)); // a flock
}

} // namespace
} // namespace lockrun::testing
