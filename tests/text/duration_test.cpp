#include "text/duration.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace {

using namespace std::chrono_literals;
using lockrun::text::parse_duration;
using std::chrono::nanoseconds;

struct Row {
  const char* name;
  std::string_view text;
  nanoseconds expected;
};
constexpr Row k_durations[] = {
  {"bare_number_is_seconds", "90", 90s},
  {"zero", "0", 0s},
  {"zero_with_unit", "0ms", 0s},
  {"leading_zeros", "007", 7s},
  {"fraction_without_whole", ".5", 500ms},
  {"whole_without_fraction", "5.", 5s},
  {"seconds", "30s", 30s},
  {"minutes", "5m", 5min},
  {"hours", "1h", 1h},
  {"days", "2d", 48h},
  {"milliseconds", "250ms", 250ms},
  {"microseconds", "10us", 10us},
  {"sum", "1h30m", 90min},
  {"long_sum", "1d2h3m4s5ms6us", 26h + 3min + 4s + 5ms + 6us},
  {"any_order", "1m1h", 61min},
  {"fraction_of_an_hour", "1.5h", 90min},
  {"fractions_in_a_sum", "1.5h.5m", 90min + 30s},
  {"exact_tenth", "0.1", 100ms},
  {"exact_nanosecond", "0.000000001", 1ns},
  {"exact_in_the_ninth_digit", "1234567.123456789", 1234567s + 123456789ns},
  {"rounded_up_not_to_zero", "0.0000000001", 1ns},
  {"rounded_up_behind_the_eighteenth_digit", "0.0000000000000000001", 1ns},
  {"many_zeros_are_exact", "1.0000000000000000000000000000", 1s},
  {"longest", "36500d", 36500 * 24h},
  {"longest_in_seconds", "3153600000", 36500 * 24h},
};

class Durations : public testing::TestWithParam<Row> {};

TEST_P(Durations, AreExact)
{
  const auto duration = parse_duration(GetParam().text);
  ASSERT_TRUE(duration.has_value()) << duration.error();
  EXPECT_EQ(duration->count(), GetParam().expected.count());
}

INSTANTIATE_TEST_SUITE_P(
  Table, Durations, testing::ValuesIn(k_durations), [](const auto& row) { return std::string(row.param.name); });

struct BadRow {
  const char* name;
  std::string_view text;
  const char* complaint; // a part of it
};
constexpr BadRow k_bad_durations[] = {
  {"empty", "", "empty"},
  {"word", "soon", "no duration"},
  {"space", " 5", "no duration"},
  {"trailing_space", "5 ", "units"},
  {"plus", "+5", "no duration"},
  {"negative", "-1", "negative"},
  {"negative_part", "1h-5m", "units"},
  {"infinite", "inf", "no duration"},
  {"infinity", "infinity", "no duration"},
  {"not_a_number", "nan", "no duration"},
  {"only_a_point", ".", "no duration"},
  {"only_a_unit", "s", "no duration"},
  {"two_points", "1.2.3", "lacks its unit"},
  {"decimal_comma", "1,5", "units"},
  {"unknown_unit", "5x", "units"},
  {"weeks", "1w", "units"},
  {"upper_case_unit", "5M", "units"},
  {"trailing_letters", "5sec", "units"},
  {"hexadecimal", "0x10", "units"},
  {"exponent", "1e3", "units"},
  {"last_unit_missing", "1h30", "lacks its unit"},
  {"newline", "5\n", "units"},
  {"longer_than_longest", "36500.000000001d", "longer than"},
  {"sum_longer_than_longest", "36500d1us", "longer than"},
  {"overflow", "99999999999999999999999999999999999999999999999d", "longer than"},
  {"overflow_in_seconds", "9223372036854775808", "longer than"},
};

class BadDurations : public testing::TestWithParam<BadRow> {};

TEST_P(BadDurations, AreRefusedWithAReason)
{
  const auto duration = parse_duration(GetParam().text);
  ASSERT_FALSE(duration.has_value());
  EXPECT_NE(std::string_view(duration.error()).find(GetParam().complaint), std::string_view::npos) << duration.error();
}

INSTANTIATE_TEST_SUITE_P(
  Table, BadDurations, testing::ValuesIn(k_bad_durations), [](const auto& row) { return std::string(row.param.name); });

} // namespace
