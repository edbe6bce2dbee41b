#include "sys/proc.hpp"

#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "sys/file.hpp"

#include <cerrno>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

// capabilities(7): without it, a process that is not dumpable cannot be looked into, not even by its own user.
bool drop_ptrace_capability()
{
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  if (::syscall(SYS_capget, &header, data) != 0) { return false; }
  for (auto* const set : {&data[0].effective, &data[0].permitted}) { *set &= ~(1U << CAP_SYS_PTRACE); }
  return ::syscall(SYS_capset, &header, data) == 0;
}

class Descriptors : public ::testing::Test {
protected:
  const TempDir dir;
  const sys::Descriptor file = sys::open((dir / "file").c_str(), O_RDWR | O_CREAT, 0600).value();
  const sys::FileIdentity identity = sys::fstat(file)->identity;
};

TEST_F(Descriptors, OfAProcessThatHasTheFileOpen)
{
  EXPECT_EQ(sys::descriptors_of(::getpid(), identity).value(), std::vector<int>{file.get()});
}

TEST_F(Descriptors, ThatCanBeListedButNotLookedAtAreNotSaidToBeOtherFiles)
{
  Pipe ready;
  Forked hidden([&] {
    ::prctl(PR_SET_DUMPABLE, 0);
    ready.close_write();
    ::pause();
    return 0;
  });
  ready.close_write();
  char byte = 0;
  ASSERT_EQ(::read(ready.read_end, &byte, 1), 0);
  Forked looking([&] {
    if (!drop_ptrace_capability()) { return 2; }
    const auto found = sys::descriptors_of(hidden.pid(), identity);
    return !found && found.error().code == EACCES ? 0 : 1;
  });
  EXPECT_EQ(looking.wait(), exited(0));
}

} // namespace
} // namespace lockrun::testing
