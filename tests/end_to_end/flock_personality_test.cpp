// lockrun under the name of flock, table by table where the machine's flock(1) is too old for a comparison
// (flock_comparison_test.cpp) or where lockrun means to differ.

#include "end_to_end/flock_program.hpp"
#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <csignal>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// --- What 2.38 does not have -----------------------------------------------------------------------------------------

// Tells that it runs, and does so until its standard input is closed.
const Words k_stay = {"sh", "-c", "echo in; read -r line"};

Words with_command(Words words, const Words& command)
{
  words.insert(words.end(), command.begin(), command.end());
  return words;
}

Start talking()
{
  Start start;
  start.in = k_pipe;
  start.out = k_pipe;
  return start;
}

TEST(FlockPersonality, FcntlLocksAndFlockLocksDoNotSeeEachOther)
{
  const TempDir directory;
  const std::string file = write_file(directory / "file", "");
  {
    const HeldLock held(file, Mode::shared, LockKind::ofd, {0, 0});
    EXPECT_EQ(run_ours({"-n", file, "true"}).status, exited(0));
    EXPECT_EQ(run_ours({"-n", "--fcntl", file, "true"}).status, exited(1));
    EXPECT_EQ(run_ours({"-nE9", "--fcntl", file, "true"}).status, exited(9));
    EXPECT_EQ(run_ours({"-ns", "--fcntl", file, "true"}).status, exited(0));
  }
  const HeldLock held(file);
  EXPECT_EQ(run_ours({"-n", file, "true"}).status, exited(1));
  EXPECT_EQ(run_ours({"-n", "--fcntl", file, "true"}).status, exited(0));
}

TEST(FlockPersonality, QueuesForAFcntlLock)
{
  const TempDir directory;
  const std::string file = write_file(directory / "file", "");
  HeldLock held(file, Mode::exclusive, LockKind::ofd, {5, 1});
  Process waiting = start_ours({"--fcntl", "--verbose", file, "echo", "hello"});
  ASSERT_TRUE(eventually([&] { return kernel_waiters(file) == 1; })); // without a pid
  held.release();
  const Finished finished = waiting.wait();
  EXPECT_EQ(finished.status, exited(0));
  EXPECT_THAT(finished.out, StartsWith("hello\nflock: getting lock took "));
}

struct RangeRow {
  const char* name;
  Words options;
  std::int64_t first;
  std::int64_t last; // -1: to the end of all files
};
const RangeRow k_ranges[] = {
  {"fcntl_is_all", {"--fcntl"}, 0, -1},
  {"start_alone_goes_to_the_end", {"--start", "100"}, 100, -1},
  {"length_alone_begins_at_0", {"--length=10"}, 0, 9},
  {"both", {"--start", "100", "--length", "10"}, 100, 109},
  {"order_does_not_matter", {"--length", "10", "--fcntl", "--start", "100"}, 100, 109},
  {"zero_length_is_all", {"--start", "7", "--length", "0"}, 7, -1},
  {"hexadecimal", {"--start", "0x10", "--length", "0x1K"}, 16, 16 + 1023},
  {"binary_units", {"--start", "1K", "--length", "2KiB"}, 1024, 1024 + 2047},
  {"decimal_units", {"--start", "1MB", "--length", "1kb"}, 1000000, 1000999},
  {"large", {"--start", "1T", "--length", "1G"}, std::int64_t{1} << 40, (std::int64_t{1} << 40) + (1 << 30) - 1},
  {"the_last_one_counts", {"--start", "5", "--start", "6", "--length", "1"}, 6, 6},
  {"prefixes", {"--sta", "5", "--len", "1"}, 5, 5},
  {"halves", {"--start", "1.5K", "--length", "0.5KiB"}, 1536, 1536 + 511},
  {"halves_in_decimal_units", {"--start", "1.5KB", "--length", "0.05MB"}, 1500, 1500 + 49999},
  {"no_digit_behind_the_point", {"--start", "1.K", "--length", "2.00K"}, 1024, 1024 + 2047},
  {"fractions_as_they_are_rounded_there", {"--start", "1.25G", "--length", "1.9K"}, 1342177279, 1342177279 + 2047},
  {"fractions_of_many_digits", {"--start", "0.5000000000000000001K", "--length", "1"}, 512, 512},
};
class FlockRanges : public ::testing::TestWithParam<RangeRow> {};

TEST_P(FlockRanges, LockTheseBytesAndNoOthers)
{
  const RangeRow& row = GetParam();
  const TempDir directory;
  const std::string file = write_file(directory / "file", "");
  Process process = start_ours(with_command(with_command(row.options, {file}), k_stay), talking());
  ASSERT_EQ(process.out_line(), "in");
  const auto is_byte_free = [&](std::int64_t byte) { return is_free(file, Mode::exclusive, LockKind::ofd, {byte, 1}); };
  EXPECT_FALSE(is_byte_free(row.first));
  if (row.first > 0) { EXPECT_TRUE(is_byte_free(row.first - 1)); }
  if (row.last >= 0) {
    EXPECT_FALSE(is_byte_free(row.last));
    EXPECT_TRUE(is_byte_free(row.last + 1));
  } else {
    EXPECT_FALSE(is_byte_free(std::int64_t{1} << 62));
  }
  EXPECT_TRUE(is_free(file)); // no lock of flock(2)
  process.close_input();
  EXPECT_EQ(process.wait().status, exited(1)); // of `read`, at the end of its input
}
INSTANTIATE_TEST_SUITE_P(
  Table, FlockRanges, ::testing::ValuesIn(k_ranges), [](const auto& row) { return row.param.name; });

struct RefusedRow {
  const char* name;
  Words arguments; // with a command "touch ran"
  int status;
  const char* words;
};
const RefusedRow k_refused[] = {
  {"start_with_letters", {"--start", "10x", "file"}, 64, "flock: invalid as start offset: '10x'\n"},
  {"start_empty", {"--start", "", "file"}, 64, "flock: invalid as start offset: ''\n"},
  {"start_negative", {"--start", "-1", "file"}, 64, "flock: invalid as start offset: '-1'\n"},
  {"start_beyond_all_files", {"--start", "8E", "file"}, 64, "flock: invalid as start offset: '8E'\n"},
  {"start_of_too_many_digits", {"--start", "99999999999999999999", "file"}, 64,
    "flock: invalid as start offset: '99999999999999999999'\n"},
  {"start_with_part_of_a_byte", {"--start", "1.5", "file"}, 64, "flock: invalid as start offset: '1.5'\n"},
  {"start_with_a_point_and_nothing_else", {"--start", "1.", "file"}, 64, "flock: invalid as start offset: '1.'\n"},
  {"start_of_a_point_and_a_unit", {"--start", ".5K", "file"}, 64, "flock: invalid as start offset: '.5K'\n"},
  {"start_with_two_points", {"--start", "1.5.5K", "file"}, 64, "flock: invalid as start offset: '1.5.5K'\n"},
  {"start_beyond_all_files_by_its_fraction", {"--start", "7.9E", "file"}, 64,
    "flock: invalid as start offset: '7.9E'\n"},
  {"length_in_unknown_units", {"--length", "1KX", "file"}, 64, "flock: invalid as length of lock range: '1KX'\n"},
  {"length_missing", {"--length"}, 64, "flock: invalid as length of lock range: 'touch'\n"},
  {"range_beyond_all_files", {"--start", "7E", "--length", "7E", "file"}, 65,
    "flock: file: Value too large for defined data type\n"},
  {"fcntl_on_a_directory", {"--fcntl", "directory"}, 65, "flock: directory: Is a directory\n"},
  {"fcntl_on_a_missing_directory", {"--fcntl", "missing/"}, 66,
    "flock: cannot open lock file missing/: No such file or directory\n"},
  {"fd_that_is_no_number", {"--fd", "nine"}, 64, "flock: bad file descriptor: 'nine'\n"},
  {"fd_too_large", {"--fd=99999999999"}, 64,
    "flock: bad file descriptor: '99999999999': Numerical result out of range\n"},
  {"fd_that_is_closed", {"--fd", "7"}, 65, "flock: 7: Bad file descriptor\n"},
  {"fcntl_on_a_descriptor_for_reading", {"--fcntl", "--fd", "9"}, 65, "flock: 9: Bad file descriptor\n"},
  {"ambiguous_since_start", {"--s", "file"}, 64,
    "flock: option '--s' is ambiguous; possibilities: '--shared' '--start'\n"
    "Try 'flock --help' for more information.\n"},
  {"ambiguous_since_fd", {"--f", "file"}, 64,
    "flock: option '--f' is ambiguous; possibilities: '--fcntl' '--fd'\n"
    "Try 'flock --help' for more information.\n"},
  {"fd_that_is_negative", {"--fd", "-1"}, 64, "flock: bad file descriptor: '-1'\n"},
  {"string_before_fd_and_a_command", {"-c", "true", "--fd", "9"}, 64,
    "flock: invalid option -- 'c'\nTry 'flock --help' for more information.\n"},
  {"string_without_fd", {"-c", "true", "file"}, 64,
    "flock: invalid option -- 'c'\nTry 'flock --help' for more information.\n"},
  {"socket", {"socket"}, 66, "flock: cannot open lock file socket: Neither a file, a directory nor a device\n"},
  // flock(1) would wait until somebody writes.
  {"fifo", {"fifo"}, 66, "flock: cannot open lock file fifo: Neither a file, a directory nor a device\n"},
};
class FlockRefusals : public ::testing::TestWithParam<RefusedRow> {};

TEST_P(FlockRefusals, SayWhyAndRunNothing)
{
  const RefusedRow& row = GetParam();
  const TempDir directory;
  write_file(directory / "file", "");
  fs::create_directory(directory / "directory");
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0666), 0);
  ASSERT_EQ(::mknod((directory / "socket").c_str(), S_IFSOCK | 0666, 0), 0);
  const Opened reading(directory / "file", O_RDONLY);
  Start start;
  start.directory = directory.path();
  start.descriptors[9] = reading.get();
  start.environment["LC_ALL"] = "C";
  const Finished finished = run_ours(with_command(row.arguments, {"touch", "ran"}), start);
  EXPECT_EQ(finished.status, exited(row.status));
  EXPECT_EQ(finished.err, row.words);
  EXPECT_EQ(finished.out, "");
  EXPECT_FALSE(fs::exists(directory / "ran"));
}
INSTANTIATE_TEST_SUITE_P(
  Table, FlockRefusals, ::testing::ValuesIn(k_refused), [](const auto& row) { return row.param.name; });

TEST(FlockPersonality, LocksADescriptorAroundACommandAndLeavesItLocked)
{
  const TempDir directory;
  const std::string file = write_file(directory / "file", "");
  const Opened ninth(file, O_RDONLY);
  Start start;
  start.descriptors[9] = ninth.get();
  const Finished finished = run_ours({"--fd", "9", "sh", "-c", "[ -e /proc/self/fd/9 ] && echo $0", "word"}, start);
  EXPECT_EQ(finished.status, exited(0));
  EXPECT_EQ(finished.out, "word\n");
  EXPECT_FALSE(is_free(file)); // it belongs to the descriptor, which is still open here
  EXPECT_EQ(run_ours({"-n", file, "true"}).status, exited(1));
  EXPECT_EQ(run_ours({"-u", "--fd=9", "true"}, start).status, exited(0));
  EXPECT_TRUE(is_free(file));
}

TEST(FlockPersonality, LocksADescriptorAroundAStringForTheShell)
{
  const TempDir directory;
  const Opened ninth(write_file(directory / "file", ""), O_RDONLY);
  Start start;
  start.descriptors[9] = ninth.get();
  start.environment["SHELL"] = "/bin/sh";
  EXPECT_EQ(run_ours({"--fd", "9", "-n", "-c", "echo $0; exit 3"}, start).out, "/bin/sh\n");
  EXPECT_EQ(run_ours({"--fd", "9", "--command", "exit 3"}, start).status, exited(3));
  EXPECT_EQ(run_ours({"-n", "-c", "exit 3", "-w", "5", "--fd", "9"}, start).status, exited(3));
  EXPECT_EQ(run_ours({"--command", "exit 3", "--fd=9"}, start).status, exited(3));
  EXPECT_EQ(run_ours({"-c", "exit 3", "--fd", "9", "-c", "exit 4"}, start).status, exited(64));
  EXPECT_EQ(run_ours({"-c", "exit 3", "--fd"}, start).status, exited(64));
  EXPECT_EQ(run_ours({"--fd", "9", "-c"}, start).status, exited(64));
  EXPECT_EQ(run_ours({"--fd", "9", "-c", "a", "b"}, start).status, exited(64));
}

TEST(FlockPersonality, LocksADescriptorWithoutACommand)
{
  const TempDir directory;
  const std::string file = write_file(directory / "file", "");
  const Opened ninth(file, O_RDWR);
  Start start;
  start.descriptors[9] = ninth.get();
  for (const Words& options : {Words{"--fd", "9"}, {"-u", "--fd=9"}, {"-sn", "--fd", "9"}}) {
    const Finished refused = run_ours(options, start);
    EXPECT_EQ(refused.status, exited(64));
    EXPECT_EQ(refused.err, "flock: missing command\n");
    EXPECT_TRUE(is_free(file));
  }
  EXPECT_EQ(run_ours({"9"}, start).status, exited(0));
  EXPECT_FALSE(is_free(file));
  EXPECT_EQ(run_ours({"--start", "3", "--length", "1", "9"}, start).status, exited(0));
  EXPECT_FALSE(is_free(file, Mode::exclusive, LockKind::ofd, {3, 1}));
  EXPECT_EQ(run_ours({"-u", "--fcntl", "9"}, start).status, exited(0));
  EXPECT_TRUE(is_free(file, Mode::exclusive, LockKind::ofd, {3, 1}));
  EXPECT_FALSE(is_free(file));
}

TEST(FlockPersonality, ClosesADescriptorInTheCommand)
{
  const TempDir directory;
  const Opened ninth(write_file(directory / "file", ""), O_RDONLY);
  Start start;
  start.descriptors[9] = ninth.get();
  EXPECT_EQ(run_ours({"-o", "--fd", "9", "sh", "-c", "[ ! -e /proc/self/fd/9 ]"}, start).status, exited(0));
}

TEST(FlockPersonality, NamesItselfAndTheVersionThatItIsCompatibleWith)
{
  const Finished version = run_ours({"--version"});
  EXPECT_EQ(version.status, exited(0));
  EXPECT_THAT(version.out, ::testing::MatchesRegex("flock from lockrun [0-9.]+, compatible with util-linux [0-9.]+\n"));
  const Finished help = run_ours({"--help"});
  EXPECT_EQ(help.status, exited(0));
  for (const char* option : {"--fcntl", "--start", "--length", "--fd", "--conflict-exit-code", "--verbose"}) {
    EXPECT_THAT(help.out, HasSubstr(option));
  }
}

// As in flock(1), where scripts name it.
TEST(FlockPersonality, GivesTheCommandTheFirstFreeDescriptorFrom3On)
{
  const TempDir directory;
  const std::string file = directory / "file";
  for (const Words& how : {Words{}, Words{"-F"}, Words{"--fcntl"}}) {
    Words options = how;
    options.insert(options.end(), {file, "sh", "-c", "readlink /proc/self/fd/3"});
    EXPECT_EQ(run_ours(options).out, file + "\n");
  }
  EXPECT_EQ(run_ours({"-sF", file, "sh", "-c", "flock -n -x 3 && exit 7"}).status, exited(7));
  const Opened third("/dev/null", O_RDONLY);
  Start start;
  start.descriptors[3] = third.get();
  EXPECT_EQ(run_ours({file, "sh", "-c", "readlink /proc/self/fd/4"}, start).out, file + "\n");
}

TEST(FlockPersonality, WaitsOutItsTimeWhateverAlarmsThereAre)
{
  const TempDir directory;
  const std::string file = directory / "file";
  HeldLock holder(file, Mode::exclusive);
  Process waiter = start_ours({"-w", "3600", file, "sh", "-c", "kill -ALRM $$; echo survived"}, talking());
  ASSERT_TRUE(eventually([&] { return kernel_waiters(file) == 1; }));
  for (int i = 0; i < 5; ++i) { waiter.signal(SIGALRM); }
  EXPECT_EQ(kernel_waiters(file), 1);
  holder.release();
  EXPECT_EQ(waiter.out_line(), std::nullopt); // the command has the alarm as it was: it dies of it
  EXPECT_EQ(waiter.wait().status, exited(128 + SIGALRM));
}

TEST(FlockPersonality, LocksDevices)
{
  EXPECT_EQ(run_ours({"-s", "/dev/null", "true"}).status, exited(0));
  EXPECT_EQ(run_ours({"--fcntl", "/dev/zero", "true"}).status, exited(0));
}

// --- Where lockrun is safer ------------------------------------------------------------------------------------------

TEST(FlockPersonality, NeverLocksOnAStandardDescriptor)
{
  const TempDir directory;
  Start start;
  start.in = k_closed;
  start.err = k_closed;
  EXPECT_EQ(
    run_ours({directory / "file", "sh", "-c", "[ ! -e /proc/self/fd/0 ] && [ ! -e /proc/self/fd/2 ]"}, start).status,
    exited(0));
}

TEST(FlockPersonality, LocksNothingByTheNameOfAClosedDescriptor)
{
  for (const char* name : {"/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}) {
    Start start;
    start.in = k_closed;
    const Finished finished = run_ours({"-n", name, "echo", "ran"}, start);
    EXPECT_EQ(finished.status, exited(66));
    EXPECT_EQ(finished.out, "");
    EXPECT_THAT(finished.err, StartsWith("flock: cannot open lock file "));
  }
}

TEST(FlockPersonality, EndsInTimeWhateverTheParentBlocksAndIgnores)
{
  const TempDir directory;
  const HeldLock held(directory / "file");
  for (const auto& hook : {hostile::block(SIGALRM), hostile::ignore(SIGALRM), hostile::block(SIGCHLD),
         hostile::ignore(SIGCHLD), hostile::limit(RLIMIT_SIGPENDING, 0)}) {
    Start start;
    start.before_exec.push_back(hook);
    const Finished finished = run_ours({"--verbose", "-w", ".02", "-E", "5", directory / "file", "true"}, start);
    EXPECT_EQ(finished.status, exited(5));
    EXPECT_EQ(finished.err, "flock: timeout while waiting to get lock\n");
  }
}

TEST(FlockPersonality, GoesOnWithWhatItIsGrantedAlsoWhereTheKernelQueuesNoSignals)
{
  const TempDir directory;
  const fs::path file = directory / "file";
  HeldLock held(file);
  Start start;
  start.before_exec = {hostile::limit(RLIMIT_SIGPENDING, 0)};
  Process process = start_ours({"-w", "1000", file, "echo", "ran"}, start);
  ASSERT_TRUE(eventually([&] { return waits_for_lock(process.pid()); }));
  held.release();
  EXPECT_EQ(process.wait().out, "ran\n");
}

// A waiter that a debugger has stopped looks to its helper thread as one that the kernel does not let go.
TEST(FlockPersonality, EndsInTimeAlsoWhenTheKernelDoesNotLetItGo)
{
  const TempDir directory;
  const HeldLock held(directory / "file");
  Process process = start_ours({"--verbose", "-w", "2", "-E", "5", directory / "file", "true"});
  ASSERT_TRUE(eventually([&] { return waits_for_lock(process.pid()); }));
  ASSERT_EQ(::ptrace(PTRACE_SEIZE, process.pid(), nullptr, nullptr), 0);
  ASSERT_EQ(::ptrace(PTRACE_INTERRUPT, process.pid(), nullptr, nullptr), 0);
  int stopped = 0;
  ASSERT_EQ(::waitpid(process.pid(), &stopped, __WALL), process.pid());
  ASSERT_TRUE(WIFSTOPPED(stopped));
  const Finished finished = process.wait();
  EXPECT_EQ(finished.status, exited(5));
  EXPECT_EQ(finished.err, "flock: timeout while waiting to get lock\n");
}

TEST(FlockPersonality, FollowsTheNameWhenTheFileWasReplacedMeanwhile)
{
  const TempDir directory;
  const fs::path file = directory / "file";
  HeldLock held(file);
  Process process = start_ours(with_command({file}, k_stay), talking());
  ASSERT_TRUE(eventually([&] { return waits_for_lock(process.pid()); }));
  fs::remove(file);
  held.release();
  ASSERT_EQ(process.out_line(), "in");
  EXPECT_FALSE(is_free(file));
  process.close_input();
  (void)process.wait();
}

TEST(FlockPersonality, PassesNoSignalOnAndLeavesTheLockToTheCommand)
{
  const TempDir directory;
  const fs::path file = directory / "file";
  Process process = start_ours(with_command({file}, k_stay), talking());
  ASSERT_EQ(process.out_line(), "in");
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, killed(SIGTERM));
  EXPECT_FALSE(is_free(file));
  process.close_input();
  EXPECT_TRUE(eventually([&] { return is_free(file); }));
}

TEST(FlockPersonality, BecomesTheCommand)
{
  const TempDir directory;
  const fs::path file = directory / "file";
  Process process = start_ours({"-F", file, "sh", "-c", "echo $$; read -r line"}, talking());
  EXPECT_EQ(process.out_line(), std::to_string(process.pid()));
  EXPECT_FALSE(is_free(file));
  process.close_input();
  EXPECT_EQ(process.wait().status, exited(1));
  EXPECT_TRUE(is_free(file));
}

TEST(FlockPersonality, FailsWhenWhatItSaysIsLost)
{
  const TempDir directory;
  Start start;
  start.out = to_file("/dev/full");
  const Finished finished = run_ours({"--verbose", directory / "file", "true"}, start);
  EXPECT_EQ(finished.status, exited(1));
  EXPECT_EQ(finished.err, "flock: write error: No space left on device\n");
}

TEST(FlockPersonality, FailsWhenItsComplaintIsLost)
{
  const TempDir directory;
  for (const Redirect& lost : {to_file("/dev/full"), k_closed}) {
    Start start;
    start.err = lost;
    EXPECT_EQ(run_ours({"--bogus"}, start).status, exited(1));
    EXPECT_EQ(run_ours({directory / "none/file", "true"}, start).status, exited(1));
    EXPECT_EQ(run_ours({directory / "file", "false"}, start).status, exited(1));
    EXPECT_EQ(run_ours({directory / "file", "sh", "-c", "exit 7"}, start).status, exited(7));
    EXPECT_EQ(run_ours({directory / "file", "no-such-command"}, start).status, exited(69)); // its child's complaint
  }
}

TEST(FlockPersonality, LocksBytesOfAFileThatItMayOnlyWrite)
{
  const TempDir directory;
  ::chmod(directory.path().c_str(), 0777);
  const std::string file = write_file(directory / "file", "", 0222);
  Start start;
  if (::geteuid() == 0) { start.before_exec = {hostile::become_user(k_nobody)}; }
  EXPECT_EQ(run_ours({"--fcntl", file, "true"}, start).status, exited(0));
  EXPECT_EQ(run_ours({"--fcntl", "-s", file, "true"}, start).status, exited(66));
}

} // namespace
} // namespace lockrun::testing
