#include <lockrun/status.hpp>

#include "support/fake_sys.hpp"
#include "support/lock_status.hpp"
#include "sys/lock.hpp"
#include "sys/proc.hpp"

#include <cerrno>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>

namespace lockrun::testing {
namespace {

using sys::LockLine;

// Of the file that FakeSys shows, and that has device 0:1 and inode 1.
LockLine line_of(pid_t pid, LockLine::Kind kind = LockLine::Kind::flock, Mode mode = Mode::exclusive)
{
  LockLine line;
  line.kind = kind;
  line.mode = mode;
  line.pid = pid;
  line.device_minor = 1;
  line.inode = 1;
  line.end = INT64_MAX;
  return line;
}

LockLine shared_line_of(pid_t pid, LockLine::Kind kind = LockLine::Kind::flock)
{
  return line_of(pid, kind, Mode::shared);
}

// The kernel while locks change hands: what it answers in this order.
class ChangingHands : public ::testing::Test {
protected:
  ChangingHands() { request.path = "/x"; }

  // The process that is looked into next.
  void has(const std::vector<LockLine>& locks)
  {
    kernel.answers("descriptors_of", std::vector<int>{3});
    kernel.answers("descriptor_info", sys::DescriptorInfo{0, 0, 1, locks});
  }
  void everybody_is(const std::vector<pid_t>& pids)
  {
    std::vector<sys::ProcessStatus> all;
    for (const pid_t pid : pids) { all.push_back({pid, 1, 'S', 0, "x"}); }
    kernel.answers("all_processes", all);
  }
  LockStatus seen() { return status(request).value(); }

  FakeSys kernel;
  LockRequest request;
};

TEST_F(ChangingHands, ATakerThatHasGoneIsNotTheHolderWhenItsLockIsGoneToo)
{
  kernel.answers("all_locks_checked", sys::LockList{{line_of(5)}, true});
  kernel.fails("descriptors_of", ESRCH);
  kernel.fails("kill", ESRCH);
  everybody_is({});
  kernel.answers("all_locks", std::vector<LockLine>());
  kernel.answers("all_locks_checked", sys::LockList{{line_of(6)}, true});
  has({line_of(6)});
  const auto told = seen();
  EXPECT_EQ(pids_of(told.holders), std::vector<pid_t>{6});
  EXPECT_EQ(told.holders.front().evidence, Holder::Evidence::descriptor);
}

TEST_F(ChangingHands, ATakerThatHasGoneIsToldWhileItsLockIsThere)
{
  kernel.answers("all_locks_checked", sys::LockList{{line_of(5)}, true});
  kernel.fails("descriptors_of", ESRCH);
  kernel.fails("kill", ESRCH);
  everybody_is({});
  kernel.answers("all_locks", std::vector<LockLine>{line_of(5)});
  const auto told = seen();
  ASSERT_EQ(pids_of(told.holders), std::vector<pid_t>{5});
  EXPECT_EQ(told.holders.front().evidence, Holder::Evidence::gone);
  EXPECT_EQ(kernel.calls("all_locks_checked").size(), 1U);
}

TEST_F(ChangingHands, TwoCannotHaveAnExclusiveLock)
{
  kernel.answers("all_locks_checked", sys::LockList{{line_of(5), line_of(6)}, true}); // in pieces
  has({line_of(5)});
  has({line_of(6)});
  kernel.answers("all_locks_checked", sys::LockList{{line_of(6)}, true});
  has({line_of(6)});
  EXPECT_EQ(pids_of(seen().holders), std::vector<pid_t>{6});
}

TEST_F(ChangingHands, TheListThatNeverSettlesIsLookedAtFourTimes)
{
  for (int i = 0; i < 4; ++i) {
    kernel.answers("all_locks_checked", sys::LockList{{line_of(5), line_of(6)}, true});
    has({line_of(5)});
    has({line_of(6)});
  }
  EXPECT_EQ(seen().holders.size(), 2U);
  EXPECT_EQ(kernel.calls("all_locks_checked").size(), 4U);
}

TEST_F(ChangingHands, SlotsAreNotOneLock)
{
  LockLine one = line_of(-1, LockLine::Kind::ofd);
  one.start = one.end = 0;
  LockLine other = one;
  other.start = other.end = 1;
  kernel.answers("all_locks_checked", sys::LockList{{one, other}, true});
  everybody_is({5, 6});
  has({one});
  has({other});
  EXPECT_EQ(pids_of(seen().holders), (std::vector<pid_t>{5, 6}));
  EXPECT_EQ(kernel.calls("all_locks_checked").size(), 1U);
}

// What may not be looked into may be a stranger, who is younger than the lock.
TEST_F(ChangingHands, OfATakerNothingSaysSinceWhen)
{
  kernel.answers("all_locks_checked", sys::LockList{{line_of(5)}, true});
  kernel.fails("descriptors_of", EACCES);
  const auto told = seen();
  ASSERT_EQ(pids_of(told.holders), std::vector<pid_t>{5});
  EXPECT_EQ(told.holders.front().evidence, Holder::Evidence::taker);
  EXPECT_FALSE(told.holders.front().since);
}

// --- those who are only counted ---

struct CountRow {
  const char* name;
  std::vector<LockLine> rest; // behind three holders
  std::size_t more;
};

LockLine on_another_file_system(LockLine line)
{
  line.device_minor = 2;
  return line;
}

class Counted : public ChangingHands, public ::testing::WithParamInterface<CountRow> {};

TEST_P(Counted, OnceEach)
{
  constexpr pid_t k_named[] = {5, 6, 7};
  request.api = Api::both;
  std::vector<LockLine> lines;
  for (const pid_t pid : k_named) { lines.push_back(shared_line_of(pid)); }
  lines.insert(lines.end(), GetParam().rest.begin(), GetParam().rest.end());
  kernel.answers("all_locks", lines);
  for (const pid_t pid : k_named) { has({shared_line_of(pid), shared_line_of(-1, LockLine::Kind::ofd)}); }
  const auto told = look(request);
  EXPECT_EQ(pids_of(told.holders), std::vector<pid_t>(std::begin(k_named), std::end(k_named)));
  EXPECT_EQ(told.more_holders, GetParam().more);
}

INSTANTIATE_TEST_SUITE_P(Table, Counted,
  ::testing::ValuesIn(std::vector<CountRow>{
    {"nobody", {}, 0},
    {"two", {shared_line_of(8), shared_line_of(9)}, 2},
    {"one_with_locks_of_two_kinds", {shared_line_of(8), shared_line_of(8, LockLine::Kind::posix)}, 1},
    {"those_who_are_named_with_both", {shared_line_of(-1, LockLine::Kind::ofd), shared_line_of(8)}, 1},
    {"a_named_one_with_another_lock", {shared_line_of(5, LockLine::Kind::posix)}, 0},
    {"not_those_of_another_file_system", {on_another_file_system(shared_line_of(8))}, 0},
  }),
  [](const auto& row) { return row.param.name; });

// As on btrfs, where the kernel's list may have another file by the same name.
TEST_F(ChangingHands, WhereTheDeviceDiffersTheOpenFileCounts)
{
  std::vector<LockLine> lines;
  const LockLine line = on_another_file_system(shared_line_of(5));
  kernel.answers("identity_in_locks", sys::FileIdentity{makedev(line.device_major, line.device_minor), line.inode});
  for (const pid_t pid : {5, 6, 7, 8}) { lines.push_back(on_another_file_system(shared_line_of(pid))); }
  kernel.answers("all_locks", lines);
  for (const pid_t pid : {5, 6, 7}) { has({on_another_file_system(shared_line_of(pid))}); }
  kernel.answers("descriptors_of", std::vector<int>{3});
  EXPECT_EQ(look(request).more_holders, 1U);
}

} // namespace
} // namespace lockrun::testing
