#include "cli/options.hpp"

#include "cli/option_table.hpp"
#include "cli/quote.hpp"
#include "cli/scan.hpp"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <utility>

namespace lockrun::cli {
namespace {

// quoted() is called with its namespace here: CLI11 brings in std::quoted, which would be found too.
using Failed = tl::unexpected<UsageError>;
using Occurrences = std::vector<Occurrence>;

// --- What the options say
// ----------------------------------------------------------------------------------------------------------

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

// Lets CLI11 set `options`. It gets to know the options that were given, no others: to register all of them costs nine
// times what all of flock(1) does. Each is applied where it stands, so that the last of contradicting ones wins.
Result<void, UsageError> apply(const Occurrences& given, Options& options)
{
  CLI::App app;
  app.set_help_flag(); // ours is in the table
  UsageError error;
  std::vector<std::string> arguments; // last one first, as CLI11 wants them
  for (const Occurrence& occurrence : given) {
    const OptionSpec& option = *occurrence.option;
    if (option.apply == nullptr) { continue; }
    const std::string name = "--" + std::string(option.names.substr(0, option.names.find(' ')));
    if (app.get_option_no_throw(name) == nullptr) {
      CLI::Option* registered = nullptr;
      if (option.value == OptionSpec::Value::none) {
        registered = app.add_flag_callback(name, [&] { option.apply(options, {}); });
      } else {
        registered = app.add_option(name, [&](const CLI::results_t& values) {
          const char* const complaint = option.apply(options, values.front());
          if (complaint == nullptr) { return true; }
          error.text = "bad value " + cli::quoted(values.front()) + " for '" + spelled(occurrence) + "': " + complaint;
          return false;
        });
      }
      registered->trigger_on_parse();
    }
    arguments.push_back(name);
    if (occurrence.value != nullptr) { arguments.emplace_back(occurrence.value); }
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

// --- What goes together
// ------------------------------------------------------------------------------------------------------------

// The last of the given options that is one of `ids`.
const Occurrence* last_of(const Occurrences& given, std::initializer_list<OptionId> ids)
{
  const auto found = std::find_if(given.rbegin(), given.rend(), [&](const Occurrence& occurrence) {
    return std::find(ids.begin(), ids.end(), occurrence.option->id) != ids.end();
  });
  return found == given.rend() ? nullptr : &*found;
}

Failed contradiction(const std::string& one, const std::string& other, const char* why)
{
  return Failed({one + " and " + other + " contradict each other: " + why, {}});
}

std::string in_quotes(const Occurrence& occurrence)
{
  return "'" + spelled(occurrence) + "'";
}

Result<void, UsageError> check_lifetime(const Occurrences& given)
{
  const Occurrence* const no_fork = last_of(given, {OptionId::no_fork});
  const Occurrence* const lifetime = last_of(given, {OptionId::hold, OptionId::close});
  if (no_fork == nullptr || lifetime == nullptr) { return {}; }
  return contradiction(
    in_quotes(*no_fork), in_quotes(*lifetime), "lockrun becomes the command, and nobody is left to free the lock");
}

// A range of bytes means an ofd lock, and must leave alone what lies above the lock.
Result<void, UsageError> complete_range(const Occurrences& given, LockRequest& request)
{
  const Occurrence* const range = last_of(given, {OptionId::start, OptionId::length});
  if (range == nullptr) { return {}; }
  const Occurrence* const api = last_of(given, {OptionId::api, OptionId::fcntl});
  if (api == nullptr) {
    request.api = Api::ofd;
  } else if (request.api == Api::flock) {
    return contradiction("'--api flock'", in_quotes(*range), "flock(2) locks whole files");
  }
  constexpr std::int64_t k_end = Range{}.length;
  const bool has_length = request.range.length != 0 && last_of(given, {OptionId::length}) != nullptr;
  const std::int64_t available = k_end - request.range.start;
  if (!has_length) { request.range.length = available; }
  if (available == 0 || request.range.length > available) {
    return Failed({"the range of " + in_quotes(*range) + " ends above byte 4611686018427387903",
      "the bytes above it belong to lockrun's own queues"});
  }
  return {};
}

// What says how a file is opened, or how long we keep it, says nothing about a descriptor that somebody else opened.
Result<void, UsageError> check_descriptor(const Occurrences& given, const std::string& descriptor)
{
  if (const Occurrence* const lifetime = last_of(given, {OptionId::hold, OptionId::close})) {
    return contradiction(in_quotes(*lifetime), descriptor, "whoever opened a descriptor decides how long it lives");
  }
  if (const Occurrence* const file = last_of(given, {OptionId::mode, OptionId::no_create, OptionId::no_follow})) {
    return contradiction(in_quotes(*file), descriptor, "a descriptor is open already");
  }
  return {};
}

// --- What stands behind the options
// ------------------------------------------------------------------------------------------------

std::optional<int> descriptor_number(std::string_view digits)
{
  int number = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number);
  if (error != std::errc() || stop != end) { return std::nullopt; }
  return number;
}

bool is_all_digits(std::string_view text)
{
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_command_option(const char* argument)
{
  return std::strcmp(argument, "-c") == 0 || std::strcmp(argument, "--command") == 0;
}

char k_shell[] = "/bin/sh";
char k_dash_c[] = "-c";

std::vector<char*> shell_command(const Occurrences& given, char* string)
{
  const Occurrence* const shell = last_of(given, {OptionId::shell});
  return {shell == nullptr ? k_shell : shell->value, k_dash_c, string, nullptr};
}

// What to run: `rest` is what stands behind LOCK, ending with a null pointer. Empty if there is nothing.
Result<std::vector<char*>, UsageError> find_command(
  const Occurrences& given, char* const* rest, char* const* end, bool is_behind_lock)
{
  if (const Occurrence* const string = last_of(given, {OptionId::command})) {
    if (rest == end) { return shell_command(given, string->value); }
    return Failed({in_quotes(*string) + " gives a command, and " + cli::quoted(*rest) + " is another one", {}});
  }
  if (rest == end) { return std::vector<char*>(); }
  if (is_behind_lock && is_command_option(*rest)) {
    if (end - rest == 2) { return shell_command(given, rest[1]); }
    if (end - rest == 1) { return Failed({"'" + std::string(*rest) + "' needs a value: STRING", {}}); }
    return Failed({"'" + std::string(*rest) + "' takes one STRING, and " + cli::quoted(rest[2]) + " is left over",
      "quote the whole command line"});
  }
  if (is_behind_lock && std::strcmp(*rest, "--") == 0) { ++rest; }
  if (rest == end) { return Failed({"missing command behind '--'", {}}); }
  if (**rest == '\0') { return Failed({"the command's name is empty", {}}); }
  std::vector<char*> command(rest, end);
  command.push_back(nullptr);
  return command;
}

Result<Options, UsageError> complete(const Occurrences& given, Options options, char* const* operand, char* const* end)
{
  if (!given.empty()) {
    if (const auto checked = check_lifetime(given); !checked) { return tl::unexpected(checked.error()); }
    if (const auto checked = complete_range(given, options.request); !checked) {
      return tl::unexpected(checked.error());
    }
    const Occurrence* const shell = last_of(given, {OptionId::shell});
    if (shell != nullptr && *shell->value == '\0') { return Failed({"bad value '' for '--shell': it is empty", {}}); }
  }
  const Occurrence* const fd = last_of(given, {OptionId::fd});
  const char* lock = nullptr;
  if (fd == nullptr) {
    if (operand == end) { return Failed({"missing LOCK", {}}); }
    lock = *operand++;
    if (*lock == '\0') { return Failed({"LOCK is empty", {}}); }
  }
  auto command = find_command(given, operand, end, fd == nullptr);
  if (!command) { return tl::unexpected(command.error()); }
  options.command = *std::move(command);

  const bool has_command = !options.command.empty();
  const bool is_bare_descriptor = lock != nullptr && !has_command && is_all_digits(lock);
  if (options.action == Action::unlock_descriptor && !is_bare_descriptor) {
    const std::string unlock = in_quotes(*last_of(given, {OptionId::unlock}));
    if (has_command) {
      return contradiction(
        unlock, "the command " + cli::quoted(options.command.front()), "a lock ends with its command by itself");
    }
    return contradiction(
      unlock, fd != nullptr ? "'--fd'" : cli::quoted(lock), "only a descriptor can be unlocked, as in 'lockrun -u 9'");
  }
  if (is_bare_descriptor) {
    options.request.fd = descriptor_number(lock);
    if (!options.request.fd) { return Failed({"there can be no descriptor " + cli::quoted(lock), {}}); }
    if (options.action == Action::run) { options.action = Action::lock_descriptor; }
    if (const auto checked = check_descriptor(given, "descriptor " + cli::quoted(lock)); !checked) {
      return tl::unexpected(checked.error());
    }
    return options;
  }
  if (!has_command) { return Failed({"missing command behind " + (fd != nullptr ? "'--fd'" : cli::quoted(lock)), {}}); }
  if (fd != nullptr) {
    if (const auto checked = check_descriptor(given, "'--fd'"); !checked) { return tl::unexpected(checked.error()); }
  } else {
    options.request.path = lock;
  }
  return options;
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
      options.action = Action::help;
      return options;
    }
    if (given.back().option->id == OptionId::version) {
      options.action = Action::version;
      return options;
    }
    if (const auto applied = apply(given, options); !applied) { return tl::unexpected(applied.error()); }
  }
  return complete(given, std::move(options), argv + scanned->operands, argv + argc);
}

// --- Help
// --------------------------------------------------------------------------------------------------------------------------

namespace {

class HelpFormatter : public CLI::Formatter {
public:
  std::string make_usage(const CLI::App*, std::string) const override
  {
    return "Usage:\n"
           "  lockrun [OPTION]... LOCK COMMAND [ARG]...      run COMMAND while holding LOCK\n"
           "  lockrun [OPTION]... LOCK -c STRING             run STRING with /bin/sh -c\n"
           "  lockrun [OPTION]... FD                         lock (or -u: unlock) a descriptor\n"
           "                                                 that the shell opened\n"
           "  lockrun [OPTION]... --fd FD COMMAND [ARG]...   the same around a command; unlocked\n"
           "                                                 again afterwards\n";
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
  CLI::App app("Run a command while holding a lock, so that no two of them run at the same time.");
  app.set_help_flag();
  for (const OptionSpec& option : option_table()) {
    CLI::Option* const registered = app.add_option(names_for_cli11(option), CLI::callback_t(), option.help);
    registered->group(option.topic);
    if (option.value == OptionSpec::Value::none) {
      registered->type_size(0);
    } else {
      registered->option_text(option.value_name);
    }
  }
  const auto formatter = std::make_shared<HelpFormatter>();
  formatter->column_width(28);
  app.formatter(formatter);
  app.footer("Options end at LOCK; what stands behind it is the command, untouched. LOCK is a file\n"
             "or a directory; a missing file is created. A bare number as DURATION is seconds.\n"
             "\n"
             "Examples:\n"
             "  lockrun -n /tmp/backup.lock rsync -a /srv /backup\n"
             "      do nothing if the last backup is still running (exit status 75)\n"
             "  lockrun -w 5m -E 0 /tmp/report.lock make report\n"
             "      wait for at most five minutes, and do not call it a failure then\n"
             "  lockrun -s data.csv -c 'sort data.csv | head'\n"
             "      read a file that others change under an exclusive lock\n"
             "  exec 9>/tmp/app.lock; lockrun 9; echo 'mine'; lockrun -u 9\n"
             "      lock a part of a shell script\n"
             "  [ \"$GUARD\" ] || GUARD=1 exec lockrun -n \"$0\" \"$0\" \"$@\"\n"
             "      at the top of a script: only one of it runs at a time");
  return app.help();
}

} // namespace lockrun::cli
