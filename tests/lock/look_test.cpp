#include <lockrun/status.hpp>

#include "support/held_lock.hpp"
#include "support/lock_status.hpp"
#include "support/temp_dir.hpp"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

TEST(Look, NamesThreeAndCountsTheRest)
{
  const TempDir dir;
  std::vector<std::unique_ptr<HoldingProcess>> holders;
  for (int i = 0; i < 5; ++i) { holders.push_back(std::make_unique<HoldingProcess>(dir / "lock", Mode::shared)); }
  const auto seen = look(request_for(dir / "lock"));
  EXPECT_EQ(seen.state, LockState::shared);
  EXPECT_EQ(seen.holders.size(), 3U);
  EXPECT_EQ(seen.more_holders, 2U);
}

TEST(Look, MindsOnlyTheKindThatIsAskedFor)
{
  const TempDir dir;
  const HoldingProcess one(dir / "lock", Mode::exclusive, LockKind::flock);
  const HoldingProcess other(dir / "lock", Mode::exclusive, LockKind::posix);
  EXPECT_EQ(pids_of(look(request_for(dir / "lock", Api::flock)).holders), std::vector{one.pid()});
  EXPECT_EQ(pids_of(look(request_for(dir / "lock", Api::ofd)).holders), std::vector{other.pid()});
  EXPECT_EQ(look(request_for(dir / "lock", Api::both)).holders.size(), 2U);
}

TEST(Look, MindsOnlyTheRangeThatIsAskedFor)
{
  const TempDir dir;
  const HoldingProcess one(dir / "lock", Mode::exclusive, LockKind::ofd, {0, 10});
  const HoldingProcess other(dir / "lock", Mode::exclusive, LockKind::ofd, {10, 10});
  auto request = request_for(dir / "lock", Api::ofd);
  request.range = {12, 1};
  EXPECT_EQ(pids_of(look(request).holders), std::vector{other.pid()});
}

TEST(Look, NeverCallsALockFree)
{
  const TempDir dir;
  EXPECT_EQ(look(request_for(dir / "lock")).state, LockState::unknown);
  write_file(dir / "lock", "");
  EXPECT_EQ(look(request_for(dir / "lock")).state, LockState::unknown);
}

TEST(Look, KeepsPosixLocksOnTheFile)
{
  const TempDir dir;
  const auto path = dir / "lock";
  const HeldLock ours(path, Mode::exclusive, LockKind::posix);
  EXPECT_EQ(pids_of(look(request_for(path, Api::ofd)).holders), std::vector{::getpid()});
  Forked asker([&] { return is_free(path, Mode::exclusive, LockKind::posix) ? 1 : 0; });
  EXPECT_EQ(asker.wait(), exited(0));
}

} // namespace
} // namespace lockrun::testing
