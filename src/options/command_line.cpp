#include "options/command_line.hpp"

#include "lock/place.hpp"
#include "options/engine_url.hpp"
#include "options/rules.hpp"
#include "remote/engine_program.hpp"
#include "text/quote.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <forward_list>
#include <initializer_list>
#include <optional>
#include <utility>

namespace lockrun::cli {
namespace {

using Failed = tl::unexpected<UsageError>;
using Occurrences = std::vector<Occurrence>;
using Operands = std::span<char* const>;

// The last of the given options that is in `set`.
const Occurrence* last_of(const Occurrences& given, const OptionSet& set)
{
  const Occurrence* last = nullptr;
  for (const Occurrence& occurrence : given) {
    if (set.contains(occurrence.option->id)) { last = &occurrence; }
  }
  return last;
}

std::string in_quotes(const Occurrence& occurrence)
{
  return "'" + spelled(occurrence) + "'";
}

// A foreign word in a message. It may be a URL wherever it stands.
std::string quoted_word(std::string_view word)
{
  return text::quoted(without_password(word));
}

Failed contradiction(const std::string& one, const std::string& other, const char* why)
{
  return Failed({one + " and " + other + " contradict each other: " + why, {}});
}

// --- The command
// -------------------------------------------------------------------------------------------------------------------

std::vector<char*> shell_command(const Occurrences& given, char* string)
{
  static char default_shell[] = "/bin/sh"; // an argv is not const, though nobody writes to it
  static char dash_c[] = "-c";
  const Occurrence* const shell = last_of(given, {OptionId::shell});
  return {shell == nullptr ? default_shell : shell->value, dash_c, string, nullptr};
}

Result<std::vector<char*>, UsageError> plain_command(Operands words)
{
  if (*words.front() == '\0') { return Failed({"the command's name is empty", {}}); }
  std::vector<char*> command;
  command.reserve(words.size() + 1);
  command.assign(words.begin(), words.end());
  command.push_back(nullptr);
  return command;
}

// The command, or nothing if there is none, where `operands` begin behind LOCK: there -c is looked at and `--` is
// dropped.
Result<std::vector<char*>, UsageError> command_behind_lock(const Occurrences& given, Operands operands)
{
  const char* const first = operands.front();
  if (std::strcmp(first, "-c") == 0 || std::strcmp(first, "--command") == 0) {
    if (operands.size() == 2) { return shell_command(given, operands[1]); }
    if (operands.size() == 1) { return Failed({"'" + std::string(first) + "' needs a value: STRING", {}}); }
    return Failed({"'" + std::string(first) + "' takes one STRING, and " + quoted_word(operands[2]) + " is left over",
      "quote the whole of the shell's command"});
  }
  if (std::strcmp(first, "--") == 0) { operands = operands.subspan(1); }
  if (operands.empty()) { return Failed({"missing command behind '--'", {}}); }
  return plain_command(operands);
}

Result<std::vector<char*>, UsageError> find_command(const Occurrences& given, Operands operands)
{
  if (const Occurrence* const string = last_of(given, {OptionId::command})) {
    if (operands.empty()) { return shell_command(given, string->value); }
    return Failed(
      {in_quotes(*string) + " gives a command, and " + quoted_word(operands.front()) + " is another one", {}});
  }
  if (operands.empty()) { return std::vector<char*>(); }
  const bool is_behind_lock = last_of(given, {OptionId::fd}) == nullptr;
  return is_behind_lock ? command_behind_lock(given, operands) : plain_command(operands);
}

// As that of LOCK: only the command needs them.
void hide_passwords_in(std::vector<char*>& command)
{
  for (char*& word : command) {
    const char* const colon = word == nullptr ? nullptr : std::strchr(word, ':'); // cheaper than strstr(3)
    if (colon == nullptr || std::strstr(colon, "://") == nullptr) { continue; }
    static std::forward_list<std::string> originals; // for as long as there is an argv
    std::string& original = originals.emplace_front(word);
    hide_passwords(word, original.size());
    word = original.data();
  }
}

// --- What goes together
// ------------------------------------------------------------------------------------------------------------

// A range of bytes means an ofd lock, and must leave alone what lies above the lock.
Result<void, UsageError> complete_range(LockRequest& request, const Occurrences& given)
{
  const Occurrence* const range = last_of(given, {OptionId::start, OptionId::length});
  if (range == nullptr) { return {}; }
  if (last_of(given, {OptionId::api, OptionId::fcntl}) == nullptr) {
    request.api = Api::ofd;
  } else if (request.api == Api::flock) {
    return contradiction("'--api flock'", in_quotes(*range), "flock(2) locks whole files");
  }
  const std::int64_t available = Range{}.length - request.range.start;
  const bool is_to_the_end = request.range.length == 0 || last_of(given, {OptionId::length}) == nullptr;
  if (is_to_the_end) { request.range.length = available; }
  if (available == 0 || request.range.length > available) {
    return Failed({"the range of " + in_quotes(*range) + " ends above byte 4611686018427387903",
      "the bytes above it belong to lockrun's own queues"});
  }
  return {};
}

OptionSet set_of(const Occurrences& given)
{
  OptionSet set{};
  for (const Occurrence& occurrence : given) { set.add(occurrence.option->id); }
  return set;
}

// The rules about `subject`, which is called `name` in a message.
Result<void, UsageError> check_rules(const Occurrences& given, Subject subject, const std::string& name)
{
  const OptionSet set = set_of(given);
  for (const Rule& rule : rules()) {
    if (rule.subject != subject || !set.meets(rule.options)) { continue; }
    if (!rule.others.empty() && !set.meets(rule.others)) { continue; }
    const std::string other = rule.others.empty() ? name : in_quotes(*last_of(given, rule.others));
    return contradiction(in_quotes(*last_of(given, rule.options)), other, rule.why);
  }
  return {};
}

// What depends on more than whether an option is there.
Result<void, UsageError> check_values(const Occurrences& given)
{
  const Occurrence* const slots = last_of(given, {OptionId::slots});
  const Occurrence* const kind = last_of(given, {OptionId::shared, OptionId::exclusive});
  if (slots != nullptr && kind != nullptr && kind->option->id == OptionId::shared) {
    return contradiction(in_quotes(*slots), in_quotes(*kind), "a slot belongs to one holder");
  }
  const Occurrence* const shell = last_of(given, {OptionId::shell});
  if (shell != nullptr && *shell->value == '\0') { return Failed({"bad value '' for '--shell': it is empty", {}}); }
  return {};
}

// How a tree is ended: a limit on holding ends one, and so does the loss of an engine's lock.
Result<void, UsageError> check_ending(const Occurrences& given, const Options& options)
{
  const Occurrence* const detail = last_of(given, {OptionId::kill_after, OptionId::signal});
  if (detail != nullptr && !options.call.rules.max_hold && options.call.engine.url.empty()) {
    return Failed({in_quotes(*detail) + " means nothing without '--max-hold'", {}});
  }
  return {};
}

// Only a bare descriptor can be unlocked; `lock` is null with --fd.
Failed refused_unlock(const Occurrences& given, const char* lock, const std::vector<char*>& command)
{
  const std::string unlock = in_quotes(*last_of(given, {OptionId::unlock}));
  if (!command.empty()) {
    return contradiction(unlock, "the command " + quoted_word(command.front()), "nothing runs when a lock is freed");
  }
  if (lock == nullptr) {
    return contradiction(unlock, "'--fd'", "'--fd' is for a command; 'lockrun -u FD' unlocks a descriptor");
  }
  return contradiction(unlock, text::quoted(lock), "only a descriptor can be unlocked, as in 'lockrun -u 9'");
}

// --- LOCK
// --------------------------------------------------------------------------------------------------------------------------

bool is_all_digits(std::string_view text)
{
  return text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::optional<int> descriptor_number(std::string_view digits)
{
  int number = 0;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc()) { return std::nullopt; }
  return number;
}

// Letters, digits and ._- keep a name in its directory, and out of the way of anybody's quoting.
Result<void, UsageError> check_name(std::string_view name)
{
  constexpr std::size_t k_longest = 255; // what file systems take
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  const char* complaint = nullptr;
  if (name.empty()) {
    complaint = "it is empty";
  } else if (name == "." || name == "..") {
    complaint = "it is a directory";
  } else if (name.size() > k_longest) {
    complaint = "it is longer than 255 bytes";
  } else if (!std::all_of(name.begin(), name.end(), is_allowed)) {
    complaint = "there can be letters, digits, and '.', '_' and '-'";
  }
  if (complaint == nullptr) { return {}; }
  return Failed({"bad name " + text::quoted(name) + " behind 'name:': " + complaint,
    "'./name:...' is a file of that name in the current directory"});
}

Result<void, UsageError> check_if_name(std::string_view lock)
{
  if (!is_name(lock)) { return {}; }
  return check_name(lock.substr(k_name_prefix.size()));
}

// --- Looking only
// ------------------------------------------------------------------------------------------------------------------

Result<LockRequest, UsageError> subject_of(LockRequest request, const char* lock)
{
  if (*lock == '\0') { return Failed({"LOCK is empty", {}}); }
  if (is_all_digits(lock)) {
    request.fd = descriptor_number(lock);
    if (!request.fd) { return Failed({"there can be no descriptor " + text::quoted(lock), {}}); }
    return request;
  }
  request.path = lock;
  if (auto checked = check_if_name(request.path); !checked) { return tl::unexpected(checked.error()); }
  return request;
}

// `look` is --status or --probe.
Result<void, UsageError> complete_look(const Occurrence& look, Options& options, Operands operands)
{
  const bool is_status = look.option->id == OptionId::status;
  constexpr const char* k_why = "it only looks";
  if (operands.empty()) { return Failed({"missing LOCK", {}}); }
  for (const char* const word : operands.subspan(1)) {
    const std::string_view text = word;
    if (text == "-c" || text == "--command" || text == "--" || !is_status) {
      return contradiction(in_quotes(look), "the command " + quoted_word(word), k_why);
    }
  }
  for (char* const word : operands) {
    if (!is_status && !remote::engine_name(word).empty()) {
      return contradiction(in_quotes(look), quoted_word(word), "it tries file systems");
    }
    if (!is_status && is_all_digits(word)) {
      return contradiction(in_quotes(look), "the descriptor " + quoted_word(word), "it opens the file twice");
    }
    const std::string url = remote::engine_name(word).empty() ? "" : word;
    hide_password(word);
    auto subject = subject_of(options.call.request, word);
    if (!subject) { return tl::unexpected(subject.error()); }
    options.question.locks.push_back({*std::move(subject), url});
  }
  options.call.action = is_status ? Action::status : Action::probe;
  return {};
}

// --- Running a command, or locking a descriptor
// --------------------------------------------------------------------------------------------------------------------

// LOCK, and its password hidden; null with --fd.
Result<const char*, UsageError> take_lock(Options& options, const Occurrences& given, Operands& operands)
{
  if (last_of(given, {OptionId::fd}) != nullptr) { return nullptr; }
  if (operands.empty()) { return Failed({"missing LOCK", {}}); }
  char* const lock = operands.front();
  operands = operands.subspan(1);
  if (*lock == '\0') { return Failed({"LOCK is empty", {}}); }
  if (!remote::engine_name(lock).empty()) {
    options.call.engine.url = lock;
    hide_password(lock); // from everybody who looks at our command line; and from our messages
  }
  return lock;
}

Result<void, UsageError> complete_engine(Options& options, const Occurrences& given, const char* lock)
{
  if (options.call.engine.url.empty()) { return {}; }
  auto checked = check_rules(given, Subject::engine, text::quoted(lock));
  if (!checked) { return checked; }
  const auto bad_value = [lock](const char* parameter, const std::string& why) {
    return Failed({"bad value of '" + std::string(parameter) + "' in " + text::quoted(lock) + ": " + why, {}});
  };
  const auto ttl = ttl_of(options.call.engine.url);
  if (!ttl) { return bad_value("ttl", ttl.error()); }
  options.call.engine.ttl = *ttl;
  const auto published = published_by(options.call.engine.url);
  if (!published) { return bad_value("publish", published.error()); }
  options.call.engine.published = *published;
  return {};
}

// FD without a command: the shell's descriptor.
Result<void, UsageError> complete_bare_descriptor(Options& options, const Occurrences& given, const char* lock)
{
  auto checked = check_rules(given, Subject::bare_descriptor, "descriptor " + text::quoted(lock));
  if (!checked) { return checked; }
  options.call.request.fd = descriptor_number(lock);
  if (!options.call.request.fd) { return Failed({"there can be no descriptor " + text::quoted(lock), {}}); }
  if (options.call.action == Action::run) { options.call.action = Action::lock_descriptor; }
  return {};
}

// What is to be locked; `lock` is null with --fd.
Result<void, UsageError> complete_subject(Options& options, const Occurrences& given, const char* lock)
{
  const bool has_command = !options.call.command.empty();
  const bool is_bare_descriptor = lock != nullptr && !has_command && is_all_digits(lock);
  if (options.call.action == Action::unlock_descriptor && !is_bare_descriptor) {
    return refused_unlock(given, lock, options.call.command);
  }
  if (is_bare_descriptor) { return complete_bare_descriptor(options, given, lock); }
  if (!has_command && lock == nullptr) {
    return Failed({"missing command behind '--fd'", "'lockrun FD' locks a descriptor of the calling shell"});
  }
  if (!has_command) { return Failed({"missing command behind " + text::quoted(lock), {}}); }
  if (lock != nullptr) { options.call.request.path = lock; }
  return {};
}

Result<void, UsageError> check_names(const LockRequest& request)
{
  if (auto checked = check_if_name(request.path); !checked) { return checked; }
  for (const FurtherLock& further : request.also) {
    if (!remote::engine_name(further.path).empty()) {
      return Failed({"'--also' takes no lock beyond this machine, as " + quoted_word(further.path) + " is",
        "take it in a call of its own, around this one"});
    }
    if (auto checked = check_if_name(further.path); !checked) { return checked; }
  }
  return {};
}

Result<void, UsageError> complete_call(Options& options, const Occurrences& given, Operands operands)
{
  const auto lock = take_lock(options, given, operands);
  if (!lock) { return tl::unexpected(lock.error()); }
  if (auto checked = check_ending(given, options); !checked) { return checked; }
  if (auto engine = complete_engine(options, given, *lock); !engine) { return engine; }
  auto command = find_command(given, operands);
  if (!command) { return tl::unexpected(command.error()); }
  options.call.command = *std::move(command);
  hide_passwords_in(options.call.command);
  if (auto subject = complete_subject(options, given, *lock); !subject) { return subject; }
  if (auto checked = check_names(options.call.request); !checked) { return checked; }
  if (!options.call.request.fd) { return {}; }
  return check_rules(given, Subject::descriptor, *lock == nullptr ? "'--fd'" : "descriptor " + text::quoted(*lock));
}

} // namespace

Result<void, UsageError> complete(Options& options, const Occurrences& given, Operands operands)
{
  if (given.empty()) { return complete_call(options, given, operands); } // as most calls
  if (auto checked = check_rules(given, Subject::any, {}); !checked) { return checked; }
  if (auto checked = check_values(given); !checked) { return checked; }
  if (auto range = complete_range(options.call.request, given); !range) { return range; }
  if (const Occurrence* const look = last_of(given, {OptionId::status, OptionId::probe})) {
    return complete_look(*look, options, operands);
  }
  if (const Occurrence* const json = last_of(given, {OptionId::json})) {
    return Failed({in_quotes(*json) + " means nothing without '--status'", {}});
  }
  return complete_call(options, given, operands);
}

} // namespace lockrun::cli
