#include "text/quote.hpp"

#include <gtest/gtest.h>

#include <string>

namespace {

struct Row {
  const char* name;
  std::string_view text;
  std::string_view expected;
};
constexpr Row k_rows[] = {
  {"empty", "", "''"},
  {"plain_path", "/tmp/app.lock", "'/tmp/app.lock'"},
  {"spaces_are_kept", "a b", "'a b'"},
  {"quote", "it's", R"('it\'s')"},
  {"backslash", R"(a\n)", R"('a\\n')"},
  {"newline", "a\nb", R"('a\nb')"},
  {"tab_and_carriage_return", "\t\r", R"('\t\r')"},
  {"escape_sequence", "\x1b[31m", R"('\x1b[31m')"},
  {"bell_and_delete", "\a\x7f", R"('\x07\x7f')"},
  {"nul", std::string_view("a\0b", 3), R"('a\x00b')"},
  {"german", "Grüße", "'Grüße'"},
  {"greek_han_emoji", "λ 鎖 🔒", "'λ 鎖 🔒'"},
  {"first_and_last_code_point_of_each_length", "\u00a0\u07ff\u0800\uffff\U00010000\U0010ffff",
    "'\u00a0\u07ff\u0800\uffff\U00010000\U0010ffff'"},
  {"c1_control", "\u009b31m", R"('\xc2\x9b31m')"},
  {"bidi_override", "a\u202etxt.exe", R"('a\xe2\x80\xaetxt.exe')"},
  {"bidi_isolate", "\u2066", R"('\xe2\x81\xa6')"},
  {"arabic_letter_mark", "\u061c", R"('\xd8\x9c')"},
  {"line_separator", "\u2028", R"('\xe2\x80\xa8')"},
  {"zero_width_space", "\u200b", R"('\xe2\x80\x8b')"},
  {"tag_characters", "\U000e0041", R"('\xf3\xa0\x81\x81')"},
  {"latin1", "Gr\xfc\xdf\x65", R"('Gr\xfc\xdfe')"},
  {"lone_continuation", "\x80", R"('\x80')"},
  {"cut_off_at_the_end", "a\xe2\x82", R"('a\xe2\x82')"},
  {"cut_off_in_the_middle", "\xe2\x82z", R"('\xe2\x82z')"},
  {"overlong_slash", "\xc0\xaf", R"('\xc0\xaf')"},
  {"overlong_three_bytes", "\xe0\x80\xaf", R"('\xe0\x80\xaf')"},
  {"overlong_four_bytes", "\xf0\x80\x80\xaf", R"('\xf0\x80\x80\xaf')"},
  {"surrogate", "\xed\xa0\x80", R"('\xed\xa0\x80')"},
  {"above_unicode", "\xf4\x90\x80\x80", R"('\xf4\x90\x80\x80')"},
  {"no_lead_byte", "\xff\xfe", R"('\xff\xfe')"},
};

class Quote : public testing::TestWithParam<Row> {};

TEST_P(Quote, ShowsTheTextButCannotBeObeyed)
{
  EXPECT_EQ(lockrun::text::quoted(GetParam().text), GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
  Table, Quote, testing::ValuesIn(k_rows), [](const auto& row) { return std::string(row.param.name); });

TEST(Quote, LeavesNoControlCharacterOfAnySingleByte)
{
  for (int byte = 0; byte < 256; ++byte) {
    const char character = static_cast<char>(byte);
    for (const char shown : lockrun::text::quoted(std::string_view(&character, 1))) {
      EXPECT_GE(shown, ' ') << "byte " << byte;
      EXPECT_LT(shown, 0x7f) << "byte " << byte;
    }
  }
}

} // namespace
