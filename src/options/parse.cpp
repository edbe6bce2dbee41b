#include "options/parse.hpp"

#include "options/command_line.hpp"
#include "options/engine_url.hpp"
#include "options/option_table.hpp"
#include "options/scan.hpp"
#include "text/quote.hpp"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <memory>
#include <utility>

// The functions that make CLI11's objects, where src/startup/late_init.ld has moved them here; elsewhere they have run
// already.
extern "C" {
// NOLINTBEGIN(readability-identifier-naming)
extern void (*const lockrun_late_init_begin[])() __attribute__((weak, visibility("hidden")));
extern void (*const lockrun_late_init_end[])() __attribute__((weak, visibility("hidden")));
// NOLINTEND(readability-identifier-naming)
}

namespace lockrun::cli {
namespace {

// To be called before anything of CLI11 is used.
void prepare_cli11()
{
  std::for_each(lockrun_late_init_begin, lockrun_late_init_end, [](void (*const make)()) { make(); });
}

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

// The same by CLI11. It gets to know the options that were given, no others: to register all of them costs nine times
// what all of flock(1) does.
Result<void, UsageError> apply(const Occurrences& given, Options& options)
{
  prepare_cli11();
  CLI::App app;
  app.set_help_flag(); // ours is in the table
  UsageError error;
  std::vector<std::string> arguments; // last one first, as CLI11 wants them
  for (const Occurrence& occurrence : given) {
    const OptionSpec& option = *occurrence.option;
    if (option.apply == nullptr) { continue; }
    // The shorter one: CLI11 goes through a name many times. A value that begins with a dash follows -w directly, --fd
    // with '='.
    const std::string name = option.letters.empty() ? "--" + std::string(option.names.substr(0, option.names.find(' ')))
                                                    : std::string("-") + option.letters.front();
    if (app.get_option_no_throw(name) == nullptr) {
      const auto set_flag = [&options, &option] { option.apply(options, {}); };
      const auto set_value = [&given, &options, &error, &option](const CLI::results_t& values) {
        const char* const complaint = option.apply(options, values.front());
        if (complaint != nullptr) { error.text = bad_value(given, option, values.front(), complaint); }
        return complaint == nullptr;
      };
      CLI::Option* const registered =
        takes_value(occurrence) ? app.add_option(name, set_value) : app.add_flag_callback(name, set_flag);
      registered->trigger_on_parse();
    }
    if (!takes_value(occurrence)) {
      arguments.push_back(name);
    } else {
      const std::string value = occurrence.value != nullptr ? occurrence.value : "";
      arguments.push_back(name);
      if (value.starts_with('-')) { // as a word of its own it would look like an option
        arguments.back().append(option.letters.empty() ? "=" : "").append(value);
      } else {
        arguments.push_back(value);
      }
    }
  }
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::Error& thrown) {
    if (error.text.empty()) { error.text = thrown.what(); }
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

// --- Help
// --------------------------------------------------------------------------------------------------------------------------

namespace {

class HelpFormatter : public CLI::Formatter {
public:
  std::string make_usage(const CLI::App*, std::string) const override
  {
    return "Usage:\n"
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
  }

  // One empty line between two groups; CLI11 makes two.
  std::string make_group(std::string group, bool, std::vector<const CLI::Option*> options) const override
  {
    std::string text = group + ":\n";
    for (const CLI::Option* option : options) { text += make_option(option, false); }
    return text;
  }

  std::string make_option_opts(const CLI::Option* option) const override
  {
    const std::string& value = option->get_option_text();
    return (value.empty() || value.front() == '[' ? "" : " ") + value;
  }

  std::string make_option_name(const CLI::Option* option, bool) const override
  {
    std::string names;
    for (const std::string& letter : option->get_snames()) { names += (names.empty() ? "-" : ", -") + letter; }
    for (const std::string& name : option->get_lnames()) { names += (names.empty() ? "    --" : ", --") + name; }
    return names;
  }
};

} // namespace

std::string help()
{
  prepare_cli11();
  CLI::App app;
  app.set_help_flag(); // ours is in the table
  for (const OptionSpec& option : option_table()) {
    CLI::Option* const registered = app.add_option(names_for_cli11(option), CLI::callback_t(), option.help);
    registered->group(option.topic);
    if (option.value == OptionSpec::Value::none) {
      registered->type_size(0);
    } else {
      const bool is_optional = option.value == OptionSpec::Value::optional;
      registered->option_text(is_optional ? "[=" + std::string(option.value_name) + "]" : option.value_name);
    }
  }
  const auto formatter = std::make_shared<HelpFormatter>();
  formatter->column_width(28);
  app.formatter(formatter);
  app.footer("Examples:\n"
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
             "      at the top of a script: only one of it runs at a time");
  return app.help();
}

} // namespace lockrun::cli
