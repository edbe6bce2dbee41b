// The tables of EXIT STATUS in the manual, row by row, with the real program.

#include "end_to_end/trace.hpp"
#include "support/held_lock.hpp"
#include "support/temp_dir.hpp"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using std::filesystem::exists;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using Words = std::vector<std::string>;

// The command, if it is run, leaves a file.
class ExitStatus : public ::testing::Test {
protected:
  const TempDir dir;
  const std::string lock = dir / "lock";
  const std::string marker = dir / "the-command-ran";

  Finished run(Words arguments, const Start& start = {}) const
  {
    arguments.insert(arguments.end(), {"touch", marker});
    return run_lockrun(arguments, start);
  }

  void expect_refusal(const Finished& ended, int status, const std::string& words) const
  {
    EXPECT_EQ(ended.status, exited(status)) << ended.err;
    EXPECT_THAT(ended.err, StartsWith("lockrun: "));
    EXPECT_THAT(ended.err, HasSubstr(words));
    EXPECT_EQ(ended.out, "");
    EXPECT_FALSE(exists(marker));
  }
};

// --- it ran ---

TEST_F(ExitStatus, IsTheCommandsOwn)
{
  for (const int status : {0, 1, 42, 75, 125, 255}) {
    const auto ended = run_lockrun({lock, "sh", "-c", "exit " + std::to_string(status)});
    EXPECT_EQ(ended.status, exited(status));
    EXPECT_EQ(ended.err, "");
  }
}

TEST_F(ExitStatus, Is128AndTheSignalThatEndedTheCommand)
{
  for (const int number : {SIGHUP, SIGTERM, SIGKILL, SIGUSR1}) {
    const auto ended = run_lockrun({lock, "sh", "-c", "kill -" + std::to_string(number) + " $$"});
    EXPECT_EQ(ended.status, exited(128 + number));
  }
}

TEST_F(ExitStatus, IsTheCommandsWithEveryLifetime)
{
  EXPECT_EQ(run_lockrun({"-o", lock, "sh", "-c", "exit 3"}).status, exited(3));
  EXPECT_EQ(run_lockrun({"-F", lock, "sh", "-c", "exit 4"}).status, exited(4));
  EXPECT_EQ(run_lockrun({"-F", lock, "sh", "-c", "kill -TERM $$"}).status, killed(SIGTERM)); // there is no lockrun left
  EXPECT_EQ(run_lockrun({lock, "-c", "exit 5"}).status, exited(5));
}

// --- busy ---

TEST_F(ExitStatus, Is75WhenBusyOrTimedOut)
{
  const HoldingProcess holder(lock);
  expect_refusal(run({"-n", lock}), 75, "'" + lock + "' is held by");
  expect_refusal(run({"-w", "0", lock}), 75, "is held by");
  expect_refusal(run({"-w", "10ms", lock}), 75, "gave up waiting for '" + lock + "' after 10ms");
}

TEST_F(ExitStatus, IsTheNumberAskedForWhenBusyOrTimedOut)
{
  const HoldingProcess holder(lock);
  for (const int status : {0, 1, 9, 255}) {
    expect_refusal(run({"-nE", std::to_string(status), lock}), status, "is held by");
    expect_refusal(run({"-E" + std::to_string(status), "-w.01", lock}), status, "gave up");
  }
}

TEST_F(ExitStatus, Is75WhateverWasAskedForWhenNested)
{
  const auto nested = run_lockrun({lock, lockrun_binary(), "-E", "3", lock, "touch", marker});
  expect_refusal(nested, 75, "a parent process of this lockrun");
}

// --- the command ---

TEST_F(ExitStatus, Is127WhenThereIsNoSuchCommand)
{
  for (const char* const lifetime : {"--hold=command", "-o", "-F"}) {
    const auto in_path = run_lockrun({lifetime, lock, "no-such-command-anywhere"});
    expect_refusal(in_path, 127, "cannot run 'no-such-command-anywhere': not found in PATH");
    const auto by_name = run_lockrun({lifetime, lock, "/no/such"});
    expect_refusal(by_name, 127, "cannot run '/no/such': No such file or directory (ENOENT)");
  }
}

TEST_F(ExitStatus, Is126WhenTheCommandCannotBeExecuted)
{
  const std::string plain = write_file(dir / "plain", "#!/bin/sh\n", 0644);
  for (const char* const lifetime : {"--hold=command", "-o", "-F"}) {
    expect_refusal(run_lockrun({lifetime, lock, plain}), 126, "cannot run '" + plain + "': Permission denied (EACCES)");
    expect_refusal(run_lockrun({lifetime, lock, dir.path()}), 126, "Permission denied (EACCES)");
  }
}

TEST_F(ExitStatus, Is64ForACommandLineThatMeansNothing)
{
  expect_refusal(run({"--no-such-option", lock}), 64, "unknown option '--no-such-option'");
  expect_refusal(run_lockrun({lock}), 64, "missing command");
  expect_refusal(run_lockrun({}), 64, "missing LOCK");
}

TEST_F(ExitStatus, Is65ForADescriptorThatIsNotOpen)
{
  expect_refusal(run_lockrun({"9"}), 65, "cannot lock descriptor 9: Bad file descriptor (EBADF)");
  expect_refusal(run_lockrun({"-u", "9"}), 65, "descriptor 9: Bad file descriptor (EBADF)");
  expect_refusal(run({"--fd", "9"}), 65, "descriptor 9: Bad file descriptor (EBADF)");
}

TEST_F(ExitStatus, Is65ForADescriptorThatIsOpenInTheWrongWay)
{
  const Pipe unused;
  const int fd = ::open(write_file(lock, "").c_str(), O_RDONLY | O_CLOEXEC);
  Start start;
  start.descriptors = {{9, fd}};
  expect_refusal(run_lockrun({"--fcntl", "9"}, start), 65, "descriptor 9: Bad file descriptor (EBADF)");
  ::close(fd);
}

// --- errors that real files can make ---

TEST_F(ExitStatus, Is73WhenTheFileCannotBe)
{
  write_file(dir / "file", "");
  expect_refusal(run({dir / "none/x"}), 73, "'" + (dir / "none/x").string() + "': No such file or directory (ENOENT)");
  expect_refusal(run({dir / "file/x"}), 73, "Not a directory (ENOTDIR)");
  expect_refusal(run({dir / std::string(300, 'x')}), 73, "File name too long (ENAMETOOLONG)");
}

TEST_F(ExitStatus, Is66WhenItMayNotBeMade)
{
  write_file(dir / "file", "");
  expect_refusal(run({"--no-create", lock}), 66, "cannot open '" + lock + "': No such file or directory (ENOENT)");
  expect_refusal(run({"--no-create", dir / "none/x"}), 66, "No such file or directory (ENOENT)");
  expect_refusal(run({"--no-create", dir / "file/x"}), 66, "Not a directory (ENOTDIR)");
  expect_refusal(run({"--no-create", dir / std::string(300, 'x')}), 66, "File name too long (ENAMETOOLONG)");
  EXPECT_FALSE(exists(lock));
}

TEST_F(ExitStatus, Is77WithoutPermission)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  Start start;
  start.before_exec = {hostile::become_user(k_nobody)};
  const std::string others = write_file(dir / "private", "", 0600);
  expect_refusal(run({others}, start), 77, "cannot open '" + others + "': Permission denied (EACCES)");
  expect_refusal(run({dir / "new"}, start), 77, "Permission denied (EACCES)");
}

TEST_F(ExitStatus, Is77ForALoopOfLinksAndForALinkThatMayNotBe)
{
  std::filesystem::create_symlink("loop", dir / "loop");
  std::filesystem::create_symlink("file", dir / "link");
  write_file(dir / "file", "");
  expect_refusal(run({dir / "loop"}), 77, "Too many levels of symbolic links (ELOOP)");
  expect_refusal(run({"--no-follow", dir / "link"}), 77, "(ELOOP)");
}

TEST_F(ExitStatus, Is77ForAnythingButAFileADirectoryOrADevice)
{
  const std::string fifo = dir / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0666), 0);
  const std::string socket = dir / "socket";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(socket.size(), sizeof address.sun_path);
  std::strcpy(static_cast<char*>(address.sun_path), socket.c_str());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const std::string words = "': it is neither a regular file, a directory nor a device";
  for (const std::string& other : {fifo, socket}) {
    expect_refusal(run({other}), 77, "cannot lock '" + other + words);
    expect_refusal(run({"--fcntl", other}), 77, "cannot lock '" + other + words);
  }
  ::close(fd);
}

TEST_F(ExitStatus, Is77ForADirectoryThatMustBeOpenForWriting)
{
  expect_refusal(run({"--fcntl", dir.path()}), 77, "Is a directory (EISDIR)");
}

TEST_F(ExitStatus, Is71WithTooFewDescriptors)
{
  Start start;
  start.before_exec = {hostile::limit(RLIMIT_NOFILE, 3)};
  // A program with shared libraries does not even start; that is not ours to report.
  const auto ended = run({lock}, start);
  if (ended.status == exited(127)) { GTEST_SKIP() << "the program under test is not static"; }
  expect_refusal(ended, 71, "Too many open files (EMFILE)");
}

TEST_F(ExitStatus, Is74ForALease)
{
  write_file(lock, "");
  Notice leased;
  Notice end;
  Forked holder([&] {
    hostile::ignore(SIGIO)();
    const int fd = ::open(lock.c_str(), O_RDWR | O_CLOEXEC);
    if (::fcntl(fd, F_SETLEASE, F_WRLCK) != 0) { return 1; }
    leased.give();
    end.wait();
    return 0;
  });
  ASSERT_TRUE(leased.await());
  expect_refusal(run({"-n", lock}), 74, "cannot open '" + lock + "': Resource temporarily unavailable (EAGAIN)");
  end.give();
  EXPECT_EQ(holder.wait(), exited(0));
}

// --- errors that the kernel is made to say ---

struct Row {
  std::string call; // and what it concerns
  int code;
  int status;
  std::vector<std::string> options = {};
};

std::string name_of(const Row& row)
{
  std::string name = row.call + strerrorname_np(row.code);
  for (const std::string& option : row.options) { name += option; }
  std::erase_if(name, [](char letter) { return std::isalnum(static_cast<unsigned char>(letter)) == 0; });
  return name;
}

class InjectedError : public ExitStatus, public ::testing::WithParamInterface<Row> {};

TEST_P(InjectedError, HasItsStatusAndIsSaidInOneLine)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  const Row& row = GetParam();
  write_file(lock, "");
  Words how{"-e", "inject=" + row.call + ":error=" + strerrorname_np(row.code)};
  if (row.call != "clone") { how.insert(how.end(), {"-P", lock}); }
  Words arguments = row.options;
  arguments.insert(arguments.end(), {lock, "touch", marker});
  const std::string name = strerrorname_np(row.code);
  const bool is_busy = row.status == 75 && row.code != EDEADLK;

  const auto ended = run_program(traced(dir / "log", how, arguments));

  expect_refusal(ended, row.status, is_busy ? "is held by" : "(" + name + ")");
  EXPECT_THAT(read_file(dir / "log"), HasSubstr("INJECTED")); // otherwise nothing was tested
  EXPECT_TRUE(is_free(lock));
}

const Row k_rows[] = {
  // "EWOULDBLOCK from flock or fcntl, EACCES from fcntl, EDEADLK"
  {"flock", EWOULDBLOCK, 75, {"-n"}},
  {"fcntl", EAGAIN, 75, {"-n", "--fcntl"}},
  {"fcntl", EACCES, 75, {"-n", "--fcntl"}},
  {"fcntl", EDEADLK, 75, {"--fcntl"}},
  {"flock", EDEADLK, 75},
  // "ENOENT, ENOTDIR, EROFS, ENOSPC, EDQUOT, ENAMETOOLONG from open"
  {"openat", ENOENT, 73},
  {"openat", ENOTDIR, 73},
  {"openat", EROFS, 73},
  {"openat", ENOSPC, 73},
  {"openat", EDQUOT, 73},
  {"openat", ENAMETOOLONG, 73},
  {"openat", ENOENT, 66, {"--no-create"}},
  {"openat", EROFS, 66, {"--no-create", "--fcntl"}},
  // "EACCES, EPERM, ELOOP from open"
  {"openat", EACCES, 77},
  {"openat", EPERM, 77},
  {"openat", ELOOP, 77},
  // "EMFILE, ENFILE, ENOMEM, EAGAIN from fork"
  {"openat", EMFILE, 71},
  {"openat", ENFILE, 71},
  {"openat", ENOMEM, 71},
  {"clone", EAGAIN, 71},
  {"clone", ENOMEM, 71},
  // "ENOLCK, EIO, ESTALE, ETIMEDOUT"
  {"flock", ENOLCK, 74},
  {"flock", EIO, 74},
  {"flock", ESTALE, 74},
  {"flock", ETIMEDOUT, 74},
  {"fcntl", ENOLCK, 74, {"--fcntl"}},
  {"openat", EIO, 74},
  {"openat", ESTALE, 74},
  // "EBADF: reopened for writing once, then 74"
  {"flock", EBADF, 74},
  {"fcntl", EBADF, 74, {"--fcntl"}},
  // "ENOSYS, EOPNOTSUPP, EINVAL: this file system cannot lock, with a hint; never a loop"
  {"flock", ENOSYS, 69},
  {"flock", EOPNOTSUPP, 69},
  {"flock", EINVAL, 69},
  {"fcntl", ENOSYS, 69, {"--fcntl"}},
  {"fcntl", EINVAL, 69, {"--fcntl"}},
  // "anything else"
  {"openat", EFBIG, 70},
  {"flock", EXDEV, 70},
};
INSTANTIATE_TEST_SUITE_P(
  Table, InjectedError, ::testing::ValuesIn(k_rows), [](const auto& row) { return name_of(row.param); });

TEST_F(ExitStatus, Is69WithAHintWhereAFileSystemCannotLock)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  const auto ended =
    run_program(traced(dir / "log", {"-P", lock, "-e", "inject=flock:error=EOPNOTSUPP"}, {lock, "touch", marker}));
  expect_refusal(ended, 69, "lockrun: hint: this file system cannot lock");
}

TEST_F(ExitStatus, IsThatOfTheErrorInTheQueueToo)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  const HoldingProcess holder(lock);
  const auto ended =
    run_program(traced(dir / "log", {"-P", lock, "-e", "inject=flock:error=ENOLCK:when=2"}, {lock, "touch", marker}));
  expect_refusal(ended, 74, "No locks available (ENOLCK)");
}

// As under the system call filter of an old container runtime, or where a limit on processes is reached.
TEST_F(ExitStatus, IsThatOfTheWaitWhereThereCanBeNoThread)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  const HoldingProcess holder(lock);
  for (const char* const refused : {"clone,clone3:error=EAGAIN", "clone,clone3:error=EPERM", "clone3:error=EPERM",
         "clone,clone3,timer_create:error=EAGAIN"}) {
    for (const Words& words : {Words{"-w.3", lock, "touch", marker}, Words{"-w.3", "--fair", lock, "touch", marker}}) {
      SCOPED_TRACE(refused + words[1]);
      const auto ended = run_program(traced(dir / "log", {"-e", std::string("inject=") + refused}, words));
      expect_refusal(ended, 75, "gave up waiting for '" + lock + "' after 300ms");
    }
  }
}

// --- quiet ---

TEST_F(ExitStatus, IsAllThatIsToldOfABusyLockWithQuiet)
{
  const HoldingProcess holder(lock);
  for (const Words& words : {Words{"-qn", lock}, Words{"-qw.01", lock}}) {
    const auto ended = run(words);
    EXPECT_EQ(ended.status, exited(75));
    EXPECT_EQ(ended.err, "");
  }
}

TEST_F(ExitStatus, QuietSilencesNoFailure)
{
  expect_refusal(run({"-q", dir / "none/x"}), 73, "No such file or directory (ENOENT)");
}

} // namespace
} // namespace lockrun::testing
