// Devices as locks.

#include "end_to_end/trace.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

TEST(Devices, CanBeLocked)
{
  const TempDir dir;
  Words devices{"/dev/null"};
  if (const std::string disk = dir / "disk"; ::mknod(disk.c_str(), S_IFBLK | 0600, makedev(7, 0)) == 0) {
    if (run_program({"sh", "-c", ": <" + disk}).status == exited(0)) { devices.push_back(disk); }
  }
  for (const std::string& device : devices) {
    const Words again = lockrun_argv({"-n", device, "true"});
    Words call{device};
    call.insert(call.end(), again.begin(), again.end());
    EXPECT_EQ(run_lockrun(call).status, exited(75)) << device;
    const auto status = run_lockrun({device, lockrun_binary(), "--status", device});
    EXPECT_EQ(status.status, exited(75)) << device;
    EXPECT_THAT(status.out, HasSubstr("exclusive"));
    EXPECT_EQ(run_lockrun({"--status", device}).status, exited(0)) << device;
    EXPECT_EQ(run_lockrun({"--fcntl", device, "true"}).status, exited(0)) << device;
    EXPECT_EQ(run_lockrun({"--unlink", device, "true"}).status, exited(0)) << device;
    EXPECT_TRUE(std::filesystem::exists(device));
    const auto by_descriptor =
      run_program({"sh", "-c", "exec 9<\"$1\"; \"$0\" 9 && ! \"$0\" -qn \"$1\" true", lockrun_binary(), device});
    EXPECT_EQ(by_descriptor.status, exited(0)) << by_descriptor.err;
  }
}

TEST(Devices, AreOpenedWithoutWaitingAndWithoutBecomingOurTerminal)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  const TempDir dir;
  const std::string log = dir / "log";
  ASSERT_EQ(
    run_program(traced(log, {"-P", "/dev/zero", "-e", "trace=openat"}, {"/dev/zero", "true"})).status, exited(0));
  EXPECT_THAT(read_file(log), HasSubstr("O_RDONLY|O_NOCTTY|O_NONBLOCK|O_CLOEXEC) = "));
}

TEST(Devices, HaveNoQueue)
{
  for (const char* const option : {"--fair", "--slots=2", "--max-waiters=1"}) {
    const auto ended = run_lockrun({option, "/dev/null", "true"});
    EXPECT_EQ(ended.status, exited(77));
    EXPECT_THAT(ended.err, HasSubstr("cannot lock '/dev/null': --fair, --slots and --max-waiters need a regular file"));
  }
}

// A watchdog and a tape. Neither is there: it would be told by ENXIO if they were opened.
TEST(Devices, ThatOpeningSetsOffAreNotOpened)
{
  const TempDir dir;
  for (const dev_t number : {makedev(10, 130), makedev(9, 0)}) {
    const std::string device = dir / std::to_string(minor(number));
    if (::mknod(device.c_str(), S_IFCHR | 0600, number) != 0) { GTEST_SKIP() << "no devices can be made here"; }
    for (const Words& call : {Words{device, "true"}, Words{"--status", device}, Words{"--probe", device}}) {
      const Words words = can_trace() ? traced(dir / "log", {"-e", "trace=openat,open"}, call) : lockrun_argv(call);
      EXPECT_EQ(run_program(words).status, exited(77));
      if (can_trace()) { EXPECT_THAT(read_file(dir / "log"), Not(HasSubstr("O_NONBLOCK"))); }
    }
    EXPECT_THAT(run_lockrun({device, "true"}).err, HasSubstr("opening a watchdog starts its countdown"));
  }
}

// A writer that waits for a reader would go on, and die of SIGPIPE.
TEST(AFifo, IsNotOpenedToFindOutThatItIsOne)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  const TempDir dir;
  const std::string fifo = dir / "fifo";
  const std::string log = dir / "log";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0666), 0);
  for (const Words& call : {Words{fifo, "true"}, Words{"--fcntl", fifo, "true"}, Words{"--fair", fifo, "true"},
         Words{"--mode", "600", fifo, "true"}, Words{"--also", fifo, dir / "lock", "true"}, Words{"--status", fifo},
         Words{"--probe", fifo}}) {
    EXPECT_EQ(run_program(traced(log, {"-P", fifo, "-e", "trace=openat,open"}, call)).status, exited(77));
    EXPECT_THAT(read_file(log), Not(HasSubstr("fifo")));
  }
}

} // namespace
} // namespace lockrun::testing
