#include "sys/mount.hpp"

#include "support/temp_dir.hpp"
#include "sys/file.hpp"

#include <gtest/gtest.h>

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

} // namespace
} // namespace lockrun::testing
