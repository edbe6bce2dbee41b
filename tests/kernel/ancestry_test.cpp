#include "kernel/ancestry.hpp"

#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "sys/proc.hpp"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

// A process that runs the file `program` until its input ends.
Process waiting(const std::filesystem::path& program, const std::string& argument)
{
  Start start;
  start.in = k_pipe;
  return Process({program.string(), argument}, start);
}
bool runs_our_program(const Process& process)
{
  const auto status = sys::process_status(process.pid());
  return status && kernel::runs_our_program(*status);
}

TEST(RunsOurProgram, ByWhateverNameItWasStarted)
{
  const TempDir dir;
  const auto us = std::filesystem::canonical("/proc/self/exe");
  std::filesystem::create_symlink(us, dir / "other-name");
  const std::string until_end_of_input = "--gtest_flagfile=/dev/stdin";
  EXPECT_TRUE(runs_our_program(waiting(us, until_end_of_input)));
  EXPECT_TRUE(runs_our_program(waiting(dir / "other-name", until_end_of_input)));
}

TEST(RunsOurProgram, NotIfItOnlyHasItsName)
{
  const TempDir dir;
  const auto us = std::filesystem::canonical("/proc/self/exe");
  std::filesystem::copy_file("/bin/cat", dir / us.filename().string());
  EXPECT_FALSE(runs_our_program(waiting(dir / us.filename().string(), "-")));
}

} // namespace
} // namespace lockrun::testing
