#include "lock/stamp.hpp"

#include "support/temp_dir.hpp"
#include "sys/clock.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"

#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

TEST(Stamp, IsReadBackToTheMillisecond)
{
  const TempDir dir;
  const auto fd = sys::open(write_file(dir / "lock", "content").c_str(), O_RDONLY);
  const auto before = sys::wall_now();
  stamp(*fd);
  const auto after = sys::wall_now();
  const auto info = sys::descriptor_info(sys::process_id(), fd->get());
  ASSERT_TRUE(info);
  const auto moment = stamped_moment(info->offset, 7, after);
  ASSERT_TRUE(moment);
  EXPECT_GE(*moment, before - 1ms);
  EXPECT_LE(*moment, after);
  EXPECT_EQ(read_file(dir / "lock"), "content");
}

struct Row {
  const char* name;
  std::int64_t offset;
  std::int64_t size;
  bool counts;
};
constexpr std::int64_t k_now = 1'800'000'000'000;
constexpr Row k_rows[] = {
  {"a_moment", k_now - 5000, 0, true},
  {"now", k_now, 100, true},
  {"the_clock_was_set_back_a_little", k_now + 1000, 0, true},
  {"later", k_now + 10'000, 0, false},
  {"beginning_of_the_file", 0, 0, false},
  {"end_of_the_file", 4096, 4096, false},
  {"behind_the_end", 8192, 4096, false},
  {"before_there_was_lockrun", 1'500'000'000'000, 0, false},
  {"within_a_huge_file", k_now - 5000, k_now, false},
  {"end_of_a_huge_file", k_now - 5000, k_now - 5000, false},
};
class StampedMoment : public ::testing::TestWithParam<Row> {};

TEST_P(StampedMoment, IsNotMistakenForAnOrdinaryOffset)
{
  const auto moment = stamped_moment(GetParam().offset, GetParam().size, milliseconds(k_now));
  EXPECT_EQ(moment.has_value(), GetParam().counts);
}
INSTANTIATE_TEST_SUITE_P(
  Table, StampedMoment, ::testing::ValuesIn(k_rows), [](const auto& row) { return row.param.name; });

} // namespace
} // namespace lockrun::testing
