#include "sys/raw.hpp"

#include "support/temp_dir.hpp"
#include "sys/process.hpp"
#include "sys/thread.hpp"

#include <cerrno>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

TEST(RawCall, GivesTheKernelsValue)
{
  EXPECT_EQ(sys::raw_call("getpid", SYS_getpid), sys::process_id());
  EXPECT_EQ(sys::raw_call("gettid", SYS_gettid), sys::thread_id());
}

TEST(RawCall, GivesTheErrnoAndTheName)
{
  const auto unknown = sys::raw_call("a call of the future", 100'000L);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ENOSYS);
  EXPECT_STREQ(unknown.error().call, "a call of the future");
  EXPECT_EQ(sys::raw_call("close", SYS_close, -1).error().code, EBADF);
}

TEST(RawCall, PassesPointersAndUpToSixArguments)
{
  ::utsname name{};
  ASSERT_TRUE(sys::raw_call("uname", SYS_uname, &name));
  EXPECT_STREQ(static_cast<const char*>(name.sysname), "Linux");

  const TempDir dir;
  write_file(dir / "from", "0123456789");
  const int from = ::open((dir / "from").c_str(), O_RDONLY | O_CLOEXEC);
  const int to = ::open((dir / "to").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  off64_t start = 4;
  EXPECT_EQ(sys::raw_call("copy_file_range", SYS_copy_file_range, from, &start, to, nullptr, 3, 0U), 3);
  EXPECT_EQ(read_file(dir / "to"), "456");
  ::close(from);
  ::close(to);
}

} // namespace
} // namespace lockrun::testing
