#include "options/scan.hpp"

#include "options/arguments.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace {

using namespace lockrun::cli;
using Words = std::vector<std::string>;

// "-n -E=9 | LOCK" for `-nE 9 LOCK`: what was found, and from where on the rest is left alone; or the error and its
// hint.
std::string scanned(const Arguments& arguments)
{
  const auto result = scan(option_table(), arguments.argc(), arguments.argv());
  if (!result) { return result.error().text + (result.error().hint.empty() ? "" : " -> " + result.error().hint); }
  std::string text;
  for (const Occurrence& occurrence : result->options) {
    text += spelled(occurrence) + (occurrence.value == nullptr ? " " : "=" + std::string(occurrence.value) + " ");
  }
  text += "|";
  for (int index = result->operands; index < arguments.argc(); ++index) {
    text += " " + std::string(arguments.argv()[index]);
  }
  return text;
}

struct Row {
  const char* name;
  Words words;
  const char* expected;
};

const Row k_rows[] = {
  {"nothing", {}, "|"},
  {"no_options", {"L", "cmd"}, "| L cmd"},
  {"letters", {"-n", "-x", "L"}, "-n -x | L"},
  {"bundle", {"-nx", "L"}, "-n -x | L"},
  {"value_in_the_next_argument", {"-w", "5", "L"}, "-w=5 | L"},
  {"value_attached", {"-w5", "L"}, "-w=5 | L"},
  {"bundle_with_value_in_the_next_argument", {"-nE", "9", "L"}, "-n -E=9 | L"},
  {"bundle_with_value_attached", {"-nE9", "L"}, "-n -E=9 | L"},
  {"value_swallows_the_bundle", {"-En", "L"}, "-E=n | L"},
  {"equals_sign_belongs_to_a_letters_value", {"-w=5", "L"}, "-w==5 | L"},
  {"value_like_an_option", {"-w", "-n", "L"}, "-w=-n | L"},
  {"value_like_the_end_of_options", {"-w", "--", "L"}, "-w=-- | L"},
  {"empty_value", {"-w", "", "L"}, "-w= | L"},
  {"long_name", {"--nonblock", "L"}, "--nonblock | L"},
  {"long_name_with_equals", {"--wait=5", "L"}, "--wait=5 | L"},
  {"long_name_with_next", {"--wait", "5", "L"}, "--wait=5 | L"},
  {"long_name_with_empty_value", {"--wait=", "L"}, "--wait= | L"},
  {"long_value_with_equals_signs", {"--command=a=b", "L"}, "--command=a=b | L"},
  {"second_name", {"--timeout=5", "L"}, "--timeout=5 | L"},
  {"prefix", {"--ex", "L"}, "--exclusive | L"},
  {"prefix_with_value", {"--ti=5", "L"}, "--timeout=5 | L"},
  {"prefix_of_two_names_of_one_option", {"--nonb", "L"}, "--nonblock | L"},
  {"exact_name_that_is_a_prefix_of_another", {"--nonblock", "--nonblocking", "L"}, "--nonblock --nonblocking | L"},
  {"short_exact_name", {"--nb", "L"}, "--nb | L"},
  {"end_of_options", {"-n", "--", "-x", "L"}, "-n | -x L"},
  {"end_of_options_only", {"--"}, "|"},
  {"options_end_at_lock", {"-n", "L", "-x", "--bogus"}, "-n | L -x --bogus"},
  {"dash_is_an_operand", {"-n", "-", "-x"}, "-n | - -x"},
  {"empty_operand", {"-n", "", "-x"}, "-n |  -x"},
  {"repeated", {"-w1", "-w2", "L"}, "-w=1 -w=2 | L"},
  {"help_ends_the_scan", {"--help", "--bogus"}, "--help | --bogus"},
  {"help_in_a_bundle_ends_the_scan", {"-nhZ", "--bogus"}, "-n -h | --bogus"},
  {"version_ends_the_scan", {"-V", "-Z"}, "-V | -Z"},

  {"unknown_letter", {"-Z", "L"}, "unknown option '-Z'"},
  {"unknown_letter_in_a_bundle", {"-nZx", "L"}, "unknown option '-Z' in '-nZx'"},
  {"negative_number", {"-5", "L"}, "unknown option '-5'"},
  {"letter_that_is_no_ascii", {"-\xc3\xa9", "L"}, "unknown option '-\\xc3' in '-é'"},
  {"control_character", {"-\x1b", "L"}, "unknown option '-\\x1b'"},
  {"long_name_with_one_dash", {"-timeout", "L"}, "unknown option '-t' in '-timeout' -> did you mean '--timeout'?"},
  {"unknown_name", {"--bogus", "L"}, "unknown option '--bogus'"},
  {"another_lockruns_lock", {"--lockfile=F", "--", "c"},
    "unknown option '--lockfile' -> another program called lockrun has it; here: lockrun -n FILE COMMAND"},
  {"another_lockruns_limit", {"--maxtime", "5"},
    "unknown option '--maxtime' -> another program called lockrun has it; here '--max-hold N' ends the command after N "
    "seconds"},
  {"another_lockruns_silence", {"--idempotent"},
    "unknown option '--idempotent' -> another program called lockrun has it; here: lockrun -qn -E 0 LOCK COMMAND"},
  {"slip", {"--wiat", "5", "L"}, "unknown option '--wiat' -> did you mean '--wait'?"},
  {"slip_with_value", {"--tiemout=5", "L"}, "unknown option '--tiemout' -> did you mean '--timeout'?"},
  {"underscore", {"--no_fork", "L"}, "unknown option '--no_fork' -> did you mean '--no-fork'?"},
  {"letter_too_many", {"--shareds", "L"}, "unknown option '--shareds' -> did you mean '--shared'?"},
  {"escapes_in_an_unknown_name", {"--\x1b[2J=5", "L"}, "unknown option '--\\x1b[2J'"},
  {"equals_only", {"--=5", "L"}, "unknown option '--'"},
  {"ambiguous", {"--no", "L"},
    "ambiguous option '--no': it could be '--nonblock', '--no-fork', '--no-create' or '--no-follow'"},
  {"ambiguous_between_two", {"--no-f", "L"}, "ambiguous option '--no-f': it could be '--no-fork' or '--no-follow'"},
  {"letter_without_value", {"-w"}, "'-w' needs a value: DURATION"},
  {"bundle_without_value", {"-nE"}, "'-E' needs a value: N"},
  {"name_without_value", {"--wait"}, "'--wait' needs a value: DURATION"},
  {"prefix_without_value", {"--ti"}, "'--timeout' needs a value: DURATION"},
  {"value_too_many", {"--nonblock=5", "L"}, "'--nonblock' takes no value, but is given '5'"},
  {"empty_value_too_many", {"--nonblock=", "L"}, "'--nonblock' takes no value, but is given ''"},
};

class Scanning : public testing::TestWithParam<Row> {};

TEST_P(Scanning, FindsOptionsAndLeavesTheRestAlone)
{
  EXPECT_EQ(scanned(Arguments(GetParam().words)), GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
  Table, Scanning, testing::ValuesIn(k_rows), [](const auto& row) { return std::string(row.param.name); });

// Some later option may have an optional value: it must be attached, so that what follows stays an operand.
TEST(Scan, TakesAnOptionalValueOnlyWhenAttached)
{
  const OptionSpec table[] = {
    {OptionId::verbose, OptionSpec::Value::optional, "p", "progress", "DURATION", "", "", nullptr},
    {OptionId::quiet, OptionSpec::Value::none, "q", "quiet", nullptr, "", "", nullptr},
  };
  const Arguments arguments({"--progress", "-p", "-p5", "-qp", "--progress=5", "--progress", "5"});
  const auto result = scan(table, arguments.argc(), arguments.argv());
  ASSERT_TRUE(result.has_value());
  std::vector<std::string> values;
  for (const Occurrence& occurrence : result->options) {
    values.emplace_back(occurrence.value == nullptr ? "none" : occurrence.value);
  }
  EXPECT_EQ(values, (std::vector<std::string>{"none", "none", "5", "none", "none", "5", "none"}));
  EXPECT_EQ(result->operands, 7);
}

TEST(Scan, PointsIntoArgv)
{
  const Arguments arguments({"-nE9", "--wait=5", "-w", "6"});
  const auto result = scan(option_table(), arguments.argc(), arguments.argv());
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->options[1].value, arguments.argv()[1] + 3);
  EXPECT_EQ(result->options[2].value, arguments.argv()[2] + 7);
  EXPECT_EQ(result->options[3].value, arguments.argv()[4]);
}

std::vector<std::string> names_of(const OptionSpec& option)
{
  std::vector<std::string> names;
  any_name(option.names, [&](std::string_view name) {
    names.emplace_back(name);
    return false;
  });
  return names;
}

TEST(OptionTable, HasEachNameOnce)
{
  std::vector<std::string> all;
  for (const OptionSpec& option : option_table()) {
    for (const char letter : option.letters) { all.emplace_back(1, letter); }
    for (const std::string& name : names_of(option)) {
      EXPECT_GT(name.size(), 1U) << name;
      all.push_back(name);
    }
  }
  std::vector<std::string> sorted = all;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(std::adjacent_find(sorted.begin(), sorted.end()), sorted.end());
}

TEST(OptionTable, KeepsTopicsTogether)
{
  std::vector<std::string> topics;
  for (const OptionSpec& option : option_table()) {
    if (topics.empty() || topics.back() != option.topic) { topics.emplace_back(option.topic); }
  }
  std::sort(topics.begin(), topics.end());
  EXPECT_EQ(std::adjacent_find(topics.begin(), topics.end()), topics.end());
}

TEST(OptionTable, NamesAValueExactlyWhereThereIsOne)
{
  for (const OptionSpec& option : option_table()) {
    EXPECT_EQ(option.value_name != nullptr, option.value != OptionSpec::Value::none) << option.names;
  }
}

// Every option in every spelling: each letter, each name, each prefix that no other option shares; value attached or
// next.
TEST(OptionTable, IsReadInEverySpelling)
{
  for (const OptionSpec& option : option_table()) {
    std::vector<std::pair<std::string, std::string>> spellings; // and what stands between them and a value
    for (const char letter : option.letters) { spellings.emplace_back(std::string("-") + letter, ""); }
    for (const std::string& name : names_of(option)) {
      for (std::size_t size = 1; size <= name.size(); ++size) {
        const std::string prefix = name.substr(0, size);
        bool is_shared = false;
        for (const OptionSpec& other : option_table()) {
          for (const std::string& foreign : names_of(other)) {
            is_shared = is_shared || (&other != &option && foreign.starts_with(prefix));
          }
        }
        if (!is_shared || size == name.size()) { spellings.emplace_back("--" + prefix, "="); }
      }
    }
    const bool has_value = option.value != OptionSpec::Value::none;
    const bool needs_value = option.value == OptionSpec::Value::required;
    for (const auto& [spelling, separator] : spellings) {
      for (const bool is_attached : {true, false}) {
        if (is_attached && !has_value) { continue; }
        Words words = {spelling};
        if (is_attached) { words.front() += separator + "value"; }
        if (needs_value && !is_attached) { words.emplace_back("value"); }
        words.emplace_back("LOCK");
        const Arguments arguments(words);
        const auto result = scan(option_table(), arguments.argc(), arguments.argv());
        ASSERT_TRUE(result.has_value()) << arguments.text() << ": " << result.error().text;
        ASSERT_EQ(result->options.size(), 1U) << arguments.text();
        EXPECT_EQ(result->options.front().option, &option) << arguments.text();
        EXPECT_EQ(result->operands, arguments.argc() - 1) << arguments.text();
        if (needs_value || is_attached) { EXPECT_STREQ(result->options.front().value, "value") << arguments.text(); }
      }
    }
  }
}

} // namespace
