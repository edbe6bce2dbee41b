#include "sys/mount.hpp"

#include "support/held_lock.hpp"
#include "support/temp_dir.hpp"
#include "sys/file.hpp"
#include "sys/proc.hpp"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

TEST(Mount, IsTheOneThatTheFileIsOn)
{
  const auto proc = sys::mount_of(*sys::open("/proc/locks", O_RDONLY));
  ASSERT_TRUE(proc);
  EXPECT_EQ(proc->type, "proc");
  EXPECT_EQ(proc->place, "/proc");
  const TempDir dir("/dev/shm");
  const auto memory = sys::mount_of(*sys::open(write_file(dir / "file", "").c_str(), O_RDONLY));
  ASSERT_TRUE(memory);
  EXPECT_EQ(memory->type, "tmpfs");
  EXPECT_NE(memory->options.find("rw"), std::string::npos);
}

TEST(Mount, FailsOnWhatIsNotOpen)
{
  EXPECT_FALSE(sys::mount_of({}));
}

TEST(IdentityInLocks, IsWhatTheKernelsListSays)
{
  const TempDir dir("/dev/shm");
  const HeldLock lock(dir / "file");
  const auto identity = sys::identity_in_locks(lock.fd(), {});
  const auto lines = sys::locks_of(::getpid(), lock.fd());
  ASSERT_TRUE(lines);
  ASSERT_EQ(lines->size(), 1U);
  EXPECT_EQ(identity.inode, lines->front().inode);
  EXPECT_EQ(identity.device, makedev(lines->front().device_major, lines->front().device_minor));
}

TEST(IdentityInLocks, IsStatsWhereTheKernelDoesNotTell)
{
  const sys::FileIdentity known{7, 8};
  EXPECT_EQ(sys::identity_in_locks(-1, known), known);
}

} // namespace
} // namespace lockrun::testing
