#include "kernel/ancestry.hpp"

#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "sys/proc.hpp"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>
#include <sys/ptrace.h>

namespace lockrun::testing {
namespace {

// Runs the file `program`, and has stopped before its first instruction.
Process running(const std::filesystem::path& program)
{
  Start start;
  start.before_exec = {[] { (void)::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }};
  return Process({program.string()}, start);
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
  EXPECT_TRUE(runs_our_program(running(us)));
  EXPECT_TRUE(runs_our_program(running(dir / "other-name")));
}

TEST(RunsOurProgram, NotIfItOnlyHasItsName)
{
  const TempDir dir;
  const auto us = std::filesystem::canonical("/proc/self/exe");
  std::filesystem::copy_file("/bin/cat", dir / us.filename().string());
  EXPECT_FALSE(runs_our_program(running(dir / us.filename().string())));
}

} // namespace
} // namespace lockrun::testing
