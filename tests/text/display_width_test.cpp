#include "text/display_width.hpp"

#include <gtest/gtest.h>

namespace lockrun::text {
namespace {

struct Row {
  const char* name;
  const char* text;
  std::size_t width;
  const char* cut_to_5;
  const char* front_cut_to_5;
};
constexpr Row k_rows[] = {
  {"empty", "", 0, "", ""},
  {"plain", "rsync", 5, "rsync", "rsync"},
  {"too_long", "rsync -a", 8, "rs...", "...-a"},
  {"accents_take_one_column", "éàüöä", 5, "éàüöä", "éàüöä"},
  {"combining_marks_take_none",
    "e\xcc\x81"
    "e\xcc\x81",
    2,
    "e\xcc\x81"
    "e\xcc\x81",
    "e\xcc\x81"
    "e\xcc\x81"},
  {"combining_marks_go_with_theirs",
    "aaaae\xcc\x81"
    "b",
    6, "aa...",
    "...e\xcc\x81"
    "b"},
  {"combining_marks_are_not_left_alone",
    "aaae\xcc\x81"
    "bb",
    6, "aa...", "...bb"},
  {"chinese_takes_two", "备份", 4, "备份", "备份"},
  {"wide_ones_are_not_cut_in_two", "备份备份", 8, "备...", "...份"},
  {"emoji", "🔒🔒🔒", 6, "🔒...", "...🔒"},
  {"invalid_bytes_count", "\xff\xfe\xfd", 3, "\xff\xfe\xfd", "\xff\xfe\xfd"},
};
class DisplayWidth : public testing::TestWithParam<Row> {};

TEST_P(DisplayWidth, IsWhatATerminalNeeds)
{
  EXPECT_EQ(display_width(GetParam().text), GetParam().width);
  EXPECT_EQ(cut_to_width(GetParam().text, 5), GetParam().cut_to_5);
  EXPECT_EQ(cut_front_to_width(GetParam().text, 5), GetParam().front_cut_to_5);
}
INSTANTIATE_TEST_SUITE_P(
  Table, DisplayWidth, testing::ValuesIn(k_rows), [](const auto& row) { return row.param.name; });

TEST(CutToWidth, KeepsWithinTheNarrowest)
{
  EXPECT_EQ(cut_to_width("rsync", 0), "");
  EXPECT_EQ(cut_to_width("rsync", 2), "..");
  EXPECT_EQ(cut_to_width("rsync", 3), "...");
  EXPECT_EQ(cut_front_to_width("rsync", 2), "..");
  EXPECT_EQ(cut_front_to_width("rsync", 3), "...");
}

} // namespace
} // namespace lockrun::text
