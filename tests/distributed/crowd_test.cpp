#include "log_checker.hpp"

#include "support/etcd_servers.hpp"
#include "support/eventually.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using ::testing::IsEmpty;

constexpr int k_crowd = 50;

// Fifty at once, from nothing: one after the other, and each of them gets it.
TEST(Crowd, IsServedOneAfterTheOther)
{
  if (const auto reason = no_etcd()) { GTEST_SKIP() << *reason; }
  EtcdServers etcd;
  const TempDir dir;
  const std::string log = (dir / "log").string();
  std::vector<Process> crowd;
  for (int i = 0; i < k_crowd; ++i) {
    Start start;
    start.out = k_null;
    start.err = to_file(dir / "err");
    crowd.emplace_back(lockrun_argv({"-q", etcd.url("crowd"), program("ticker"), log, "1"}), start);
  }
  for (Process& one : crowd) { EXPECT_EQ(one.wait().status, exited(0)); }
  const LogVerdict verdict = check_log(read_file(log));
  EXPECT_EQ(verdict.sections, static_cast<std::size_t>(k_crowd)) << read_file(dir / "err");
  EXPECT_THAT(verdict.overlaps, IsEmpty());
  EXPECT_THAT(verdict.inversions, IsEmpty());
  EXPECT_THAT(verdict.stale, IsEmpty());
  // A slow server may still be at it; they would end by themselves after 30 s.
  EXPECT_TRUE(eventually([&] { return leftovers({}, etcd.leases()).empty(); }, std::chrono::seconds(20)));
}

// The twin of all the above: without the lock the same check finds fault.
TEST(Crowd, IsSeenToOverlapWithoutTheLock)
{
  const TempDir dir;
  const std::string log = (dir / "log").string();
  std::vector<Process> crowd;
  for (int i = 0; i < 5; ++i) { crowd.emplace_back(std::vector<std::string>{program("ticker"), log, "600000"}); }
  EXPECT_TRUE(eventually([&] { return check_log(read_file(log)).overlaps.size() == 4; }));
  write_file(log + ".stop", "");
  for (Process& one : crowd) { EXPECT_EQ(one.wait().status, exited(0)); }
  const LogVerdict verdict = check_log(read_file(log));
  EXPECT_FALSE(verdict.overlaps.empty());
  EXPECT_FALSE(verdict.inversions.empty()); // no tokens at all
}

TEST(Crowd, IsServedFirstComeFirstServed)
{
  if (const auto reason = no_etcd()) { GTEST_SKIP() << *reason; }
  EtcdServers etcd;
  const TempDir dir;
  Start start;
  start.in = k_pipe;
  Process holder(lockrun_argv({etcd.url("queue"), "cat"}), start);
  std::string expected;
  std::vector<Process> crowd;
  for (int i = 0; i < k_crowd; ++i) {
    const auto queued = static_cast<std::size_t>(i) + 1; // those before, and the holder
    ASSERT_TRUE(eventually([&] { return etcd.keys("queue/").size() == queued; }));
    Start quiet;
    quiet.out = to_file(dir / "order");
    quiet.err = to_file(dir / "err");
    crowd.emplace_back(lockrun_argv({"-q", etcd.url("queue"), "echo", std::to_string(i)}), quiet);
    expected += fmt::format("{}\n", i);
  }
  ASSERT_TRUE(eventually([&] { return etcd.keys("queue/").size() == k_crowd + 1; }));
  holder.close_input();
  EXPECT_EQ(holder.wait().status, exited(0));
  for (Process& one : crowd) { EXPECT_EQ(one.wait().status, exited(0)) << read_file(dir / "err"); }
  EXPECT_EQ(read_file(dir / "order"), expected);
  // A slow server may still be at it; they would end by themselves after 30 s.
  EXPECT_TRUE(eventually([&] { return leftovers({}, etcd.leases()).empty(); }, std::chrono::seconds(20)));
}

} // namespace
} // namespace lockrun::testing
