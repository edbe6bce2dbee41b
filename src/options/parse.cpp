#include "options/parse.hpp"

#include "options/command_line.hpp"
#include "options/engine_url.hpp"
#include "options/option_table.hpp"
#include "options/scan.hpp"
#include "startup/cli11.hpp"
#include "text/quote.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lockrun::cli {
namespace {

using Occurrences = std::vector<Occurrence>;

// "-w,--wait,--timeout", as CLI11 wants it.
std::string names_for_cli11(const OptionSpec& option)
{
  std::string names;
  for (const char letter : option.letters) { names += std::string(names.empty() ? "-" : ",-") + letter; }
  any_name(option.names, [&](std::string_view name) {
    names += (names.empty() ? "--" : ",--") + std::string(name);
    return false;
  });
  return names;
}

std::string bad_value(
  const Occurrences& given, const OptionSpec& option, const std::string& value, const char* complaint)
{
  const auto where = std::find_if(given.begin(), given.end(), [&](const Occurrence& occurrence) {
    return occurrence.option == &option && occurrence.value != nullptr && occurrence.value == value;
  });
  // With its namespace, because CLI11 brings in std::quoted, which would be found too.
  return "bad value " + text::quoted(without_password(value)) + " for '" + spelled(*where) + "': " + complaint;
}

bool takes_value(const Occurrence& occurrence)
{
  return occurrence.option->value != OptionSpec::Value::none;
}

// Each is applied where it stands, so that the last of contradicting ones wins.
void apply_flags(const Occurrences& given, Options& options)
{
  for (const Occurrence& occurrence : given) {
    if (occurrence.option->apply != nullptr) { occurrence.option->apply(options, {}); }
  }
}

// What CLI11 is to know it by: one name, the shorter one, because CLI11 goes through a name many times. A value that
// begins with a dash follows -w directly, --fd with '='.
std::string name_for_cli11(const OptionSpec& option)
{
  return option.letters.empty() ? "--" + std::string(option.names.substr(0, option.names.find(' ')))
                                : std::string("-") + option.letters.front();
}

// The same by CLI11. It gets to know the options that were given, no others: to register all of them costs nine times
// what all of flock(1) does.
Result<void, UsageError> apply(const Occurrences& given, Options& options)
{
  UsageError error;
  std::vector<GivenOption> known;
  for (const Occurrence& occurrence : given) {
    const OptionSpec& option = *occurrence.option;
    if (option.apply == nullptr) { continue; }
    const auto take = [&given, &options, &error, &option](const std::string& value) {
      const char* const complaint = option.apply(options, value);
      if (complaint != nullptr) { error.text = bad_value(given, option, value, complaint); }
      return complaint == nullptr;
    };
    std::optional<std::string> value;
    if (takes_value(occurrence)) { value = occurrence.value != nullptr ? occurrence.value : ""; }
    known.push_back({name_for_cli11(option), std::move(value), take});
  }
  if (const auto complaint = take_values(known)) {
    if (error.text.empty()) { error.text = *complaint; }
    return tl::unexpected(error);
  }
  return {};
}

} // namespace

Result<Options, UsageError> parse_options(int argc, char* const* argv)
{
  const auto scanned = scan(option_table(), argc, argv);
  if (!scanned) { return tl::unexpected(scanned.error()); }
  Options options;
  const Occurrences& given = scanned->options;
  if (!given.empty()) {
    if (given.back().option->id == OptionId::help) {
      options.call.action = Action::help;
      return options;
    }
    if (given.back().option->id == OptionId::version) {
      options.call.action = Action::version;
      return options;
    }
    if (std::none_of(given.begin(), given.end(), takes_value)) { // -n, -s, -F: what most give
      apply_flags(given, options);
    } else if (const auto applied = apply(given, options); !applied) {
      return tl::unexpected(applied.error());
    }
  }
  const auto completed = complete(options, given, {argv + scanned->operands, argv + argc});
  if (!completed) { return tl::unexpected(completed.error()); }
  return options;
}

// --- Help ---

namespace {

constexpr const char* k_usage_text =
  "Usage:\n"
  "  lockrun [OPTION]... LOCK COMMAND [ARG]...     run COMMAND while holding LOCK\n"
  "  lockrun [OPTION]... LOCK -c STRING            run STRING with /bin/sh -c\n"
  "  lockrun [OPTION]... FD                        lock (-u: unlock) a descriptor\n"
  "                                                that the shell opened\n"
  "  lockrun [OPTION]... --fd FD COMMAND [ARG]...  the same around a command;\n"
  "                                                unlocked again afterwards\n"
  "\n"
  "LOCK is a file or a directory; a missing file is created. ENGINE://... is a lock\n"
  "beyond this machine. Options end at LOCK; what stands behind it is the command,\n"
  "untouched.\n"
  "\n";

constexpr const char* k_examples = "Examples:\n"
                                   "  lockrun -n /tmp/backup.lock rsync -a /srv /backup\n"
                                   "      do nothing if the last backup is still running (exit status 75)\n"
                                   "  lockrun -w 5m -E 0 /tmp/report.lock make report\n"
                                   "      wait for five minutes at most, and do not call it a failure then\n"
                                   "  lockrun -s data.csv -c 'sort data.csv | head'\n"
                                   "      read a file that others change under an exclusive lock\n"
                                   "  exec 9>/tmp/app.lock; lockrun 9; echo 'mine'; lockrun -u 9\n"
                                   "      lock a part of a shell script\n"
                                   "  [ \"$LOCKRUN_PID:$LOCKRUN_LOCK\" = \"$PPID:$0\" ] ||\n"
                                   "    exec lockrun -n \"$0\" \"$0\" \"$@\"\n"
                                   "      at the top of a script: only one of it runs at a time";

} // namespace

std::string help()
{
  std::vector<HelpEntry> entries;
  for (const OptionSpec& option : option_table()) {
    std::string value = option.value_name != nullptr ? option.value_name : "";
    if (option.value == OptionSpec::Value::optional) { value.insert(0, "[=").append("]"); }
    entries.push_back({names_for_cli11(option), std::move(value), option.help, option.topic});
  }
  return help_text(k_usage_text, entries, k_examples);
}

} // namespace lockrun::cli
