#include "options/rules.hpp"

#include "options/arguments.hpp"
#include "options/parse.hpp"
#include "options/sample_value.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace lockrun;
using namespace lockrun::cli;
using Words = std::vector<std::string>;

std::vector<OptionSpec> options_in(const OptionSet& set)
{
  std::vector<OptionSpec> found;
  const auto table = option_table();
  std::copy_if(table.begin(), table.end(), std::back_inserter(found),
    [&](const OptionSpec& option) { return set.contains(option.id); });
  return found;
}

std::string name_of(const OptionSpec& option)
{
  return std::string(option.names.substr(0, option.names.find(' ')));
}

std::string word_for(const OptionSpec& option)
{
  const std::string name = "--" + name_of(option);
  return option.value == OptionSpec::Value::none ? name : name + "=" + sample_value(option);
}

// The rest of a command line about this subject.
Words operands_of(Subject subject)
{
  switch (subject) {
  case Subject::any:
    return {"LOCK", "cmd"};
  case Subject::engine:
    return {"etcd://host/name", "cmd"};
  case Subject::descriptor:
    return {"--fd=9", "cmd"};
  case Subject::bare_descriptor:
    return {"9"};
  }
  return {};
}

std::string refusal_of(const Words& words)
{
  const Arguments arguments(words);
  const auto options = parse_options(arguments.argc(), arguments.argv());
  return options ? "accepted: " + arguments.text() : options.error().text;
}

TEST(Rules, RefuseEachPairWithTheReason)
{
  for (const Rule& rule : rules()) {
    std::vector<OptionSpec> others = options_in(rule.others);
    for (const OptionSpec& option : options_in(rule.options)) {
      for (std::size_t i = 0; i < std::max<std::size_t>(others.size(), 1); ++i) {
        Words words = operands_of(rule.subject);
        words.insert(words.begin(), word_for(option));
        if (!others.empty()) { words.insert(words.begin(), word_for(others[i])); }
        const std::string refusal = refusal_of(words);
        EXPECT_NE(refusal.find(" contradict each other: " + std::string(rule.why)), std::string::npos) << refusal;
        EXPECT_NE(refusal.find("'--" + name_of(option) + "'"), std::string::npos) << refusal;
      }
    }
  }
}

// Otherwise a rule could refuse too much, and the test above would not notice.
TEST(Rules, RefuseNoOptionByItself)
{
  for (const OptionSpec& option : option_table()) {
    const bool is_whole_call = option.id == OptionId::unlock || option.id == OptionId::command ||
                               option.id == OptionId::json || option.id == OptionId::kill_after ||
                               option.id == OptionId::signal || option.id == OptionId::probe;
    if (is_whole_call) { continue; } // they need other words
    const Arguments arguments(Words{word_for(option), "LOCK", "cmd"});
    EXPECT_TRUE(parse_options(arguments.argc(), arguments.argv())) << arguments.text();
  }
}

std::string in_manual(const OptionSet& set)
{
  std::string line = ".Fl";
  for (const OptionSpec& option : options_in(set)) { line += (line == ".Fl" ? " -" : " , -") + name_of(option); }
  return line;
}

// As the manual has to show the rules.
std::string manual_of_rules()
{
  const auto subject_words = [](Subject subject) {
    switch (subject) {
    case Subject::any:
      break;
    case Subject::engine:
      return "a lock of an engine:";
    case Subject::descriptor:
      return "a descriptor:";
    case Subject::bare_descriptor:
      return "a descriptor without a command:";
    }
    return "";
  };
  std::string text;
  for (const Rule& rule : rules()) {
    text += ".It\n" + in_manual(rule.options) + "\nwith\n";
    text += rule.others.empty() ? subject_words(rule.subject) : in_manual(rule.others) + " :";
    text += "\n" + std::string(rule.why) + ".\n";
  }
  return text;
}

TEST(Rules, AreInTheManual)
{
  const std::ifstream file(LOCKRUN_SOURCE_DIR "/man/lockrun.1");
  std::stringstream manual;
  manual << file.rdbuf();
  const std::string expected = ".Bl -bullet -compact\n" + manual_of_rules() + ".El\n";
  EXPECT_NE(manual.str().find(expected), std::string::npos) << "expected in the manual:\n" << expected;
}

} // namespace
