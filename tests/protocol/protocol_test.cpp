#include "protocol/protocol.hpp"

#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::protocol {
namespace {

TEST(Message, IsAVerbWithKeysAndValuesOnOneLine)
{
  EXPECT_EQ(format(Message("HELD").with("token", 17).with("key", "a/b")), "HELD token=17 key=a/b\n");
  EXPECT_EQ(format(Message("RELEASE")), "RELEASE\n");
}

TEST(Message, EncodesWhatWouldBreakTheLine)
{
  const std::string hostile = std::string("a b\n%\t=\x7f") + '\0' + "\xc3\xa4";
  const std::string line = format(Message("FAIL").with("text", hostile));
  EXPECT_EQ(line, "FAIL text=a%20b%0A%25%09=%7F%00\xc3\xa4\n");
  const auto back = parse(std::string_view(line).substr(0, line.size() - 1));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->text("text"), hostile);
}

TEST(Message, ComesBackAsItWasForEveryByte)
{
  for (int byte = 0; byte < 256; ++byte) {
    const Message message = Message("TROUBLE").with("text", std::string(3, static_cast<char>(byte))).with("empty", "");
    const std::string line = format(message);
    ASSERT_EQ(line.find('\n'), line.size() - 1);
    const auto back = parse(std::string_view(line).substr(0, line.size() - 1));
    ASSERT_TRUE(back) << byte;
    EXPECT_EQ(*back, message) << byte;
  }
}

TEST(Message, TellsNumbersFromOtherText)
{
  const Message message = Message("HELD")
                            .with("most", std::numeric_limits<std::int64_t>::max())
                            .with("least", std::numeric_limits<std::int64_t>::min())
                            .with("over", "9223372036854775808")
                            .with("empty", "")
                            .with("tail", "12ms")
                            .with("space", " 1");
  EXPECT_EQ(message.number("most"), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(message.number("least"), std::numeric_limits<std::int64_t>::min());
  for (const char* key : {"over", "empty", "tail", "space", "missing"}) { EXPECT_FALSE(message.number(key)) << key; }
  EXPECT_EQ(message.text("missing"), std::nullopt);
}

TEST(Message, IsCutOffRatherThanTooLong)
{
  for (const char* character : {"x", " "}) {
    std::string value;
    for (std::size_t i = 0; i < k_longest_line; ++i) { value += character; }
    const std::string line = format(Message("ACQUIRE").with("command", value).with("more", value));
    EXPECT_LE(line.size(), k_longest_line);
    EXPECT_GT(line.size(), k_longest_line - 8);
    EXPECT_EQ(line.back(), '\n');
    EXPECT_TRUE(parse(std::string_view(line).substr(0, line.size() - 1)));
  }
}

TEST(Message, FitsIfNothingIsCutOff)
{
  for (const char byte : {'x', ' '}) {
    std::string value(k_longest_line / (byte == ' ' ? 3 : 1) - 50, byte);
    Message message = Message("LOCKRUN").with("version", 1).with("url", value);
    ASSERT_TRUE(fits(message));
    for (Message longer = message; fits(longer); value += byte) {
      message = longer;
      longer = Message("LOCKRUN").with("version", 1).with("url", value);
    }
    const std::string line = format(message);
    EXPECT_EQ(parse(std::string_view(line).substr(0, line.size() - 1)).value(), message);
    EXPECT_GT(line.size(), k_longest_line - 10);
    value += std::string(10, byte);
    EXPECT_FALSE(fits(Message("LOCKRUN").with("version", 1).with("url", value)));
  }
}

struct Row {
  const char* name;
  std::string line;
  const char* complaint;
};
const std::vector<Row> k_malformed = {
  {"empty", "", "it does not begin with a verb"},
  {"space_first", " HELD", "it does not begin with a verb"},
  {"lower_case", "held token=1", "it does not begin with a verb"},
  {"binary", std::string("\x01\x00\xff", 3), "it does not begin with a verb"},
  {"no_equals", "HELD token", "it has a word that is no key=value"},
  {"no_key", "HELD =1", "it has a word that is no key=value"},
  {"strange_key", "HELD To.ken=1", "it has a word that is no key=value"},
  {"twice", "HELD token=1 token=2", "it has a key twice"},
  {"percent_at_end", "HELD key=%", "it has a '%' without two hexadecimal digits"},
  {"percent_and_one", "HELD key=%4", "it has a '%' without two hexadecimal digits"},
  {"percent_and_words", "HELD key=%zz", "it has a '%' without two hexadecimal digits"},
};
class Malformed : public ::testing::TestWithParam<Row> {};
TEST_P(Malformed, IsRefusedWithTheReason)
{
  const auto message = parse(GetParam().line);
  ASSERT_FALSE(message);
  EXPECT_STREQ(message.error(), GetParam().complaint);
}
INSTANTIATE_TEST_SUITE_P(
  Table, Malformed, ::testing::ValuesIn(k_malformed), [](const auto& row) { return row.param.name; });

TEST(Parse, PassesOverSpacesAndTakesUnknownWords)
{
  const auto message = parse("NEWS  one=1   two= ");
  ASSERT_TRUE(message);
  EXPECT_EQ(*message, Message("NEWS").with("one", 1).with("two", ""));
}

std::vector<std::string> lines_of(LineReader& reader)
{
  std::vector<std::string> lines;
  std::string line;
  while (reader.next(line) == LineReader::State::line) { lines.push_back(line); }
  return lines;
}

TEST(LineReader, PutsPiecesTogether)
{
  LineReader reader;
  const std::string text = "HELD token=1\n\nRENEWED deadline=2\nLO";
  std::vector<std::string> lines;
  for (const char c : text) {
    reader.add({&c, 1});
    for (const std::string& line : lines_of(reader)) { lines.push_back(line); }
  }
  EXPECT_THAT(lines, ::testing::ElementsAre("HELD token=1", "", "RENEWED deadline=2"));
  EXPECT_TRUE(reader.has_rest());
  reader.add("ST\n");
  EXPECT_THAT(lines_of(reader), ::testing::ElementsAre("LOST"));
  EXPECT_FALSE(reader.has_rest());
}

TEST(LineReader, TakesSeveralLinesThatCameAtOnce)
{
  LineReader reader;
  reader.add("A\nB\nC\n");
  EXPECT_THAT(lines_of(reader), ::testing::ElementsAre("A", "B", "C"));
  EXPECT_FALSE(reader.has_rest());
}

TEST(LineReader, TakesTheLongestLineAndNoLonger)
{
  LineReader reader;
  const std::string longest(k_longest_line - 1, 'x');
  reader.add(longest);
  EXPECT_THAT(lines_of(reader), ::testing::IsEmpty());
  reader.add("\nA\n");
  EXPECT_THAT(lines_of(reader), ::testing::ElementsAre(longest, "A"));

  reader.add(longest + "x");
  std::string line;
  EXPECT_EQ(reader.next(line), LineReader::State::too_long);
  reader.add("\nA\n");
  EXPECT_EQ(reader.next(line), LineReader::State::too_long);
}

} // namespace
} // namespace lockrun::protocol
