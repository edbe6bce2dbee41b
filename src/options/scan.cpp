#include "options/scan.hpp"

#include "text/quote.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace lockrun::cli {
namespace {

using Value = OptionSpec::Value;
using Failed = tl::unexpected<UsageError>;

// How many letters must be inserted, removed, replaced or swapped with their neighbour to turn one word into the other.
std::size_t distance(std::string_view a, std::string_view b)
{
  std::vector<std::size_t> before_last(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) { row[j] = j; }
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before_last.swap(last);
    last.swap(row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replaced});
      const bool is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (is_swap) { row[j] = std::min(row[j], before_last[j - 2] + 1); }
    }
  }
  return row[b.size()];
}

// "did you mean '--wait'?" for '--wiat'; nothing when no name is near.
std::string nearest_name(std::span<const OptionSpec> table, std::string_view word)
{
  constexpr std::size_t k_longest_word = 64; // a longer one is no slip of the fingers
  if (word.size() > k_longest_word) { return {}; }
  std::string_view nearest;
  std::size_t best = word.size() / 3 + 2; // one slip, and one more for every three letters
  for (const OptionSpec& option : table) {
    any_name(option.names, [&](std::string_view name) {
      const std::size_t away = distance(word, name);
      if (away < best && away < name.size()) {
        best = away;
        nearest = name;
      }
      return false;
    });
  }
  return nearest.empty() ? std::string() : "did you mean '--" + std::string(nearest) + "'?";
}

// Options of another program of this name, at the head of commands that were written for it (`lockrun --lockfile=FILE
// -- COMMAND`), and what they are here.
std::string advice_for_namesake(std::string_view word)
{
  struct Advice {
    std::string_view name;
    const char* text;
  };
  constexpr Advice k_all[] = {
    {"lockfile", "another program called lockrun has it; here: lockrun -n FILE COMMAND"},
    {"maxtime", "another program called lockrun has it; here '--max-hold N' ends the command after N seconds"},
    {"idempotent", "another program called lockrun has it; here: lockrun -qn -E 0 LOCK COMMAND"},
    {"sleep", "another program called lockrun has it; here '-w N' waits at most N seconds"},
    {"retries", "another program called lockrun has it; here '-w N' waits at most N seconds"},
  };
  for (const Advice& advice : k_all) {
    if (advice.name == word) { return advice.text; }
  }
  return {};
}

class Scan {
public:
  Scan(std::span<const OptionSpec> table, int argc, char* const* argv) : m_table(table), m_argc(argc), m_argv(argv) {}

  Result<Scanned, UsageError> run()
  {
    while (m_next < m_argc) {
      char* const argument = m_argv[m_next];
      if (argument[0] != '-' || argument[1] == '\0') { break; }
      ++m_next;
      if (std::strcmp(argument, "--") == 0) { break; }
      const auto read = argument[1] == '-' ? long_option(argument + 2) : letters(argument + 1);
      if (!read) { return tl::unexpected(read.error()); }
      if (is_answer(m_scanned.options.back())) { break; }
    }
    m_scanned.operands = m_next;
    return std::move(m_scanned);
  }

private:
  static bool is_answer(const Occurrence& last)
  {
    return last.option->id == OptionId::help || last.option->id == OptionId::version;
  }

  // The value that stands in the next argument.
  Result<char*, UsageError> next_value(const Occurrence& of)
  {
    if (m_next < m_argc) { return m_argv[m_next++]; }
    return Failed({"'" + spelled(of) + "' needs a value: " + of.option->value_name, {}});
  }

  Result<void, UsageError> letters(char* text)
  {
    for (char* const whole = text; *text != '\0'; ++text) {
      const OptionSpec* option = nullptr;
      for (const OptionSpec& candidate : m_table) {
        if (candidate.letters.find(*text) != std::string_view::npos) { option = &candidate; }
      }
      if (option == nullptr) { return unknown_letter(text, whole); }
      Occurrence& found = m_scanned.options.emplace_back(Occurrence{option, {text, 1}, nullptr});
      if (option->value == Value::required && text[1] == '\0') {
        const auto value = next_value(found);
        if (!value) { return tl::unexpected(value.error()); }
        found.value = *value;
        return {};
      }
      if (option->value != Value::none && text[1] != '\0') {
        found.value = text + 1;
        return {};
      }
      if (is_answer(found)) { return {}; }
    }
    return {};
  }

  Failed unknown_letter(const char* letter, const char* whole) const
  {
    const std::string name = std::string("-") + *letter;
    std::string hint;
    const bool is_name = std::any_of(m_table.begin(), m_table.end(), [&](const OptionSpec& option) {
      return any_name(option.names, [&](std::string_view known) { return known == whole; });
    });
    if (is_name) { hint = "did you mean '--" + std::string(whole) + "'?"; }
    const bool is_bundle = std::strlen(whole) > 1;
    return Failed(
      {"unknown option " + text::quoted(name) + (is_bundle ? " in " + text::quoted(std::string("-") + whole) : ""),
        hint});
  }

  Result<void, UsageError> long_option(char* text)
  {
    char* const equals = std::strchr(text, '=');
    const std::string_view word =
      equals == nullptr ? text : std::string_view(text, static_cast<std::size_t>(equals - text));
    const auto meant = find_long(word);
    if (!meant) { return tl::unexpected(meant.error()); }
    Occurrence& found = m_scanned.options.emplace_back(*meant);
    if (equals != nullptr) {
      if (found.option->value == Value::none) {
        return Failed({"'" + spelled(found) + "' takes no value, but is given " + text::quoted(equals + 1), {}});
      }
      found.value = equals + 1;
    } else if (found.option->value == Value::required) {
      const auto value = next_value(found);
      if (!value) { return tl::unexpected(value.error()); }
      found.value = *value;
    }
    return {};
  }

  // The option whose name is `word`, or the only one that has names beginning with it.
  Result<Occurrence, UsageError> find_long(std::string_view word) const
  {
    std::vector<Occurrence> candidates;
    for (const OptionSpec& option : m_table) {
      const bool is_exact = any_name(option.names, [&](std::string_view name) {
        const bool is_candidate = !word.empty() && name.starts_with(word);
        const bool is_new = candidates.empty() || candidates.back().option != &option;
        if (is_candidate && is_new) { candidates.push_back({&option, name, nullptr}); }
        return name == word;
      });
      if (is_exact) { return Occurrence{&option, word, nullptr}; }
    }
    if (candidates.size() == 1) { return candidates.front(); }
    const std::string name = text::quoted("--" + std::string(word));
    if (candidates.empty()) {
      const std::string advice = advice_for_namesake(word);
      return Failed({"unknown option " + name, advice.empty() ? nearest_name(m_table, word) : advice});
    }
    std::string text = "ambiguous option " + name + ": it could be ";
    for (const Occurrence& candidate : candidates) {
      const bool is_last = &candidate == &candidates.back();
      text += (&candidate == &candidates.front() ? "'" : is_last ? " or '" : ", '") + spelled(candidate) + "'";
    }
    return Failed({text, {}});
  }

  std::span<const OptionSpec> m_table;
  int m_argc;
  char* const* m_argv;
  int m_next = 1;
  Scanned m_scanned{};
};

} // namespace

std::string spelled(const Occurrence& occurrence)
{
  return (occurrence.name.size() == 1 ? "-" : "--") + std::string(occurrence.name);
}

Result<Scanned, UsageError> scan(std::span<const OptionSpec> table, int argc, char* const* argv)
{
  return Scan(table, argc, argv).run();
}

} // namespace lockrun::cli
