#include "lock/lock_line.hpp"

#include "kernel/queue.hpp"
#include "kernel/slots.hpp"

#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

namespace lockrun::testing {
namespace {

using sys::LockLine;
using Kind = LockLine::Kind;

LockLine line_at(std::int64_t byte, Kind kind, pid_t pid = 1)
{
  LockLine line = line_of(kind, Mode::exclusive, {byte, 1});
  line.pid = pid;
  line.inode = 7;
  return line;
}

LockLine waiting(LockLine line)
{
  line.waits = true;
  return line;
}

// --- the same lock ---

struct Difference {
  const char* name;
  void (*make)(LockLine&);
  bool is_another_lock;
};
const Difference k_differences[] = {
  {"nothing", [](LockLine&) {}, false},
  {"one_of_them_waits", [](LockLine& line) { line.waits = true; }, false}, // for callers to tell apart
  {"kind", [](LockLine& line) { line.kind = Kind::posix; }, true},
  {"mode", [](LockLine& line) { line.mode = Mode::shared; }, true},
  {"owner", [](LockLine& line) { line.pid = 2; }, true},
  {"first_byte", [](LockLine& line) { line.start = 0; }, true},
  {"last_byte", [](LockLine& line) { line.end = 10; }, true},
  {"file", [](LockLine& line) { line.inode = 8; }, true},
  {"file_system", [](LockLine& line) { line.device_minor = 1; }, true},
  {"kind_of_file_system", [](LockLine& line) { line.device_major = 1; }, true},
};

class Differences : public ::testing::TestWithParam<Difference> {};
TEST_P(Differences, MakeAnotherLock)
{
  const LockLine one = line_at(5, Kind::ofd);
  LockLine other = one;
  GetParam().make(other);
  EXPECT_EQ(is_same_lock(one, other), !GetParam().is_another_lock);
  EXPECT_EQ(is_same_lock(other, one), !GetParam().is_another_lock);
}
INSTANTIATE_TEST_SUITE_P(
  Table, Differences, ::testing::ValuesIn(k_differences), [](const auto& row) { return std::string(row.param.name); });

TEST(LockLine, IsOnTheFileThatTheKernelNames)
{
  LockLine line = line_at(0, Kind::flock);
  line.device_major = 8;
  line.device_minor = 3;
  EXPECT_TRUE(is_on(line, {makedev(8, 3), 7}));
  EXPECT_FALSE(is_on(line, {makedev(8, 3), 8}));
  EXPECT_FALSE(is_on(line, {makedev(3, 8), 7}));
  EXPECT_EQ(device_of(line), makedev(8, 3));
}

// --- what it keeps from others ---

TEST(LockLine, BlocksOnTheSameFileOnly)
{
  const LockLine held = line_at(5, Kind::ofd);
  LockLine wanted = waiting(line_at(5, Kind::posix, 2));
  EXPECT_TRUE(blocks(held, wanted));
  EXPECT_FALSE(blocks(waiting(held), wanted)); // it has nothing yet
  wanted.device_minor = 1;
  EXPECT_FALSE(blocks(held, wanted));
}

TEST(LockLine, CommonPartIsWhatBothCover)
{
  const LockLine line = line_of(Kind::ofd, Mode::shared, {10, 10});
  const auto part_within = [&](Range range) {
    const auto part = common_part(line, line_of(Kind::ofd, Mode::exclusive, range));
    EXPECT_EQ(part.value_or(line).mode, Mode::shared);
    return part ? std::optional(range_of(*part)) : std::nullopt;
  };
  EXPECT_EQ(part_within({0, 0}), (Range{10, 10}));
  EXPECT_EQ(part_within({15, 0}), (Range{15, 5}));
  EXPECT_EQ(part_within({0, 15}), (Range{10, 5}));
  EXPECT_EQ(part_within({12, 2}), (Range{12, 2}));
  EXPECT_EQ(part_within({20, 1}), std::nullopt);
  EXPECT_EQ(part_within({0, 10}), std::nullopt);
}

// --- what it is for ---

struct Use {
  const char* name;
  LockLine line;
  std::optional<int> slot;
  bool is_of_waiter;
  bool is_queue_ticket;
};
const std::int64_t k_after_slots = kernel::byte_of_slot(kernel::k_most_slots).start;
const Use k_uses[] = {
  {"all_of_the_file", line_of(Kind::flock, Mode::exclusive, {}), {}, false, false},
  {"all_that_a_lock_covers", line_of(Kind::ofd, Mode::exclusive, {}), {}, false, false},
  {"byte_0", line_at(0, Kind::ofd), {}, false, false},
  {"the_door", line_at(kernel::k_door, Kind::posix), {}, false, false},
  {"the_byte_before_the_slots", line_at(kernel::k_first_slot - 1, Kind::ofd), {}, false, false},
  {"the_first_slot", line_at(kernel::k_first_slot, Kind::ofd, -1), 0, false, false},
  {"the_last_slot", line_at(k_after_slots - 1, Kind::ofd, -1), kernel::k_most_slots - 1, false, false},
  {"the_byte_after_the_slots", line_at(k_after_slots, Kind::ofd), {}, false, false},
  {"a_slots_byte_of_another_program", line_at(kernel::k_first_slot, Kind::posix), {}, false, false},
  {"one_of_few_waiters", line_at(kernel::k_first_waiting_place, Kind::posix), {}, true, false},
  {"the_first_in_the_queue", line_at(kernel::k_queue, Kind::posix), {}, true, true},
  {"a_later_one_in_the_queue", line_at(kernel::k_queue + 4312, Kind::posix), {}, true, true},
  {"who_waits_for_one_in_the_queue", waiting(line_at(kernel::k_queue, Kind::posix)), {}, true, false},
};

class Uses : public ::testing::TestWithParam<Use> {};
TEST_P(Uses, AreToldByTheByte)
{
  EXPECT_EQ(slot_of(GetParam().line), GetParam().slot);
  EXPECT_EQ(is_of_waiter(GetParam().line), GetParam().is_of_waiter);
  EXPECT_EQ(is_queue_ticket(GetParam().line), GetParam().is_queue_ticket);
}
INSTANTIATE_TEST_SUITE_P(
  Table, Uses, ::testing::ValuesIn(k_uses), [](const auto& row) { return std::string(row.param.name); });

// --- who waits ---

TEST(LockLine, NamesTheWaiterItself)
{
  const LockLine line = waiting(line_at(0, Kind::flock, 4312));
  EXPECT_EQ(waiting_process({line}, line), 4312);
  EXPECT_EQ(waiting_process({}, waiting(line_at(0, Kind::ofd, -1))), 0); // the kernel does not say
}

TEST(LockLine, TheFirstOneInItsQueueWaitsForASlot)
{
  const LockLine slot = waiting(line_at(kernel::k_first_slot + 3, Kind::ofd, -1));
  LockLine elsewhere = line_at(kernel::k_queue, Kind::posix, 9);
  elsewhere.inode = 8;
  std::vector<LockLine> lines{elsewhere, slot, line_at(kernel::k_queue + 6, Kind::posix, 16),
    waiting(line_at(kernel::k_queue + 5, Kind::posix, 17)), line_at(kernel::k_queue + 5, Kind::posix, 15)};
  EXPECT_EQ(waiting_process(lines, slot), 15);
  lines = {elsewhere, slot};
  EXPECT_EQ(waiting_process(lines, slot), 0); // it has left the queue meanwhile
}

} // namespace
} // namespace lockrun::testing
