#include "lock/nested.hpp"

#include "lock/lock_line.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using sys::LockLine;
using Kind = LockLine::Kind;
using Ranges = std::vector<Range>;

LockLine bytes(std::int64_t start, std::int64_t length, Mode mode = Mode::exclusive, Kind kind = Kind::ofd)
{
  return line_of(kind, mode, {start, length});
}

struct Row {
  const char* name;
  std::vector<LockLine> held;
  LockLine wanted;
  Ranges missing;
  bool is_blocked; // by one of them
};
const LockLine k_flock = line_of(Kind::flock, Mode::exclusive, {});
const LockLine k_shared_flock = line_of(Kind::flock, Mode::shared, {});
const Row k_rows[] = {
  {"nothing", {}, bytes(0, 20), {{0, 20}}, false},
  {"all_of_it", {bytes(0, 20)}, bytes(0, 20), {}, true},
  {"more_than_it", {bytes(0, 0)}, bytes(5, 20), {}, true},
  {"the_beginning", {bytes(0, 10)}, bytes(0, 20), {{10, 10}}, true},
  {"the_end", {bytes(10, 10)}, bytes(0, 20), {{0, 10}}, true},
  {"the_middle", {bytes(5, 5)}, bytes(0, 20), {{0, 5}, {10, 10}}, true},
  {"two_halves_in_any_order", {bytes(10, 10), bytes(0, 10)}, bytes(0, 20), {}, true},
  {"two_that_overlap", {bytes(0, 12), bytes(8, 12)}, bytes(0, 20), {}, true},
  {"two_with_a_gap", {bytes(0, 5), bytes(15, 5)}, bytes(0, 20), {{5, 10}}, true},
  {"one_within_another", {bytes(0, 15), bytes(3, 2)}, bytes(0, 20), {{15, 5}}, true},
  {"next_to_it", {bytes(20, 5)}, bytes(0, 20), {{0, 20}}, false},
  {"to_the_end_of_file", {bytes(0, 10)}, bytes(0, 0), {{10, 0}}, true},
  {"shared_for_exclusive", {bytes(0, 20, Mode::shared)}, bytes(0, 20), {{0, 20}}, true},
  {"shared_for_shared", {bytes(0, 20, Mode::shared)}, bytes(0, 20, Mode::shared), {}, false},
  {"exclusive_for_shared", {bytes(0, 20)}, bytes(0, 20, Mode::shared), {}, true},
  {"posix_for_ofd", {bytes(0, 0, Mode::exclusive, Kind::posix)}, bytes(0, 20), {}, true},
  {"flock_for_ofd", {k_flock}, bytes(0, 20), {{0, 20}}, false},
  {"ofd_for_flock", {bytes(0, 0)}, k_flock, {{0, 0}}, false},
  {"flock_for_flock", {k_flock}, k_flock, {}, true},
  {"shared_flock_for_flock", {k_shared_flock}, k_flock, {{0, 0}}, true},
  {"a_lease", {line_of(Kind::lease, Mode::exclusive, {})}, k_flock, {{0, 0}}, false},
};

class AncestorLocks : public ::testing::TestWithParam<Row> {};
TEST_P(AncestorLocks, CoverAndBlockWhatTheKernelSays)
{
  TreeLocks tree;
  for (const LockLine& line : GetParam().held) { tree.held.push_back({4312, line}); }
  EXPECT_EQ(uncovered(tree, GetParam().wanted), GetParam().missing);
  EXPECT_EQ(in_the_way(tree, GetParam().wanted) != nullptr, GetParam().is_blocked);
}
INSTANTIATE_TEST_SUITE_P(
  Table, AncestorLocks, ::testing::ValuesIn(k_rows), [](const auto& row) { return std::string(row.param.name); });

} // namespace
} // namespace lockrun::testing
