#include "options/option_table.hpp"

#include "kernel/slots.hpp"
#include "options/parse.hpp"
#include "text/duration.hpp"

#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>

namespace lockrun::cli {
namespace {

// A number without sign, spaces or anything behind it.
std::optional<std::int64_t> whole_number(std::string_view text, int base = 10)
{
  std::int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number, base);
  if (text.starts_with('-') || error != std::errc() || stop != end) { return std::nullopt; }
  return number;
}

const char* set_wait(Options& options, std::string_view value)
{
  const auto duration = text::parse_duration(value);
  if (!duration) { return duration.error(); }
  options.call.request.patience = *duration;
  return nullptr;
}

const char* set_conflict_exit_code(Options& options, std::string_view value)
{
  const auto number = whole_number(value);
  if (!number || *number > 255) { return "it is no whole number from 0 to 255"; }
  options.call.conflict_exit_code = static_cast<int>(*number);
  return nullptr;
}

const char* set_slots(Options& options, std::string_view value)
{
  const auto number = whole_number(value);
  if (!number || *number < 1 || *number > kernel::k_most_slots) { return "it is no whole number from 1 to 256"; }
  options.call.request.slots = static_cast<int>(*number);
  return nullptr;
}

const char* set_max_waiters(Options& options, std::string_view value)
{
  constexpr int k_most = 100'000; // more processes than any machine runs
  const auto number = whole_number(value);
  if (!number || *number > k_most) { return "it is no whole number from 0 to 100000"; }
  options.call.request.max_waiters = static_cast<int>(*number);
  return nullptr;
}

const char* add_lock(Options& options, std::string_view value, Mode mode)
{
  if (value.empty()) { return "it is empty"; }
  options.call.request.also.push_back({std::string(value), mode});
  return nullptr;
}

const char* set_hold(Options& options, std::string_view value)
{
  if (value == "command") {
    options.call.rules.lifetime = Lifetime::command;
  } else if (value == "tree") {
    options.call.rules.lifetime = Lifetime::tree;
  } else if (value == "wrapper") {
    options.call.rules.lifetime = Lifetime::wrapper;
  } else {
    return "it is none of 'command', 'tree' and 'wrapper'";
  }
  return nullptr;
}

const char* set_max_hold(Options& options, std::string_view value)
{
  const auto duration = text::parse_duration(value);
  if (!duration) { return duration.error(); }
  if (*duration == duration->zero()) { return "it would end the command at once"; }
  options.call.rules.max_hold = *duration;
  return nullptr;
}

const char* set_kill_after(Options& options, std::string_view value)
{
  const auto duration = text::parse_duration(value);
  if (!duration) { return duration.error(); }
  options.call.rules.kill_after = *duration;
  options.call.rules.asks_for_grace = true;
  return nullptr;
}

// "TERM", "SIGTERM" or "15"; 0 if there is no such signal.
int signal_number(std::string_view text)
{
  if (const auto number = whole_number(text)) { return *number <= SIGRTMAX ? static_cast<int>(*number) : 0; }
  constexpr std::string_view k_prefix = "SIG";
  if (text.starts_with(k_prefix)) { text.remove_prefix(k_prefix.size()); }
  for (int signal = 1; signal < SIGRTMIN; ++signal) {
    const char* const name = ::sigabbrev_np(signal);
    if (name != nullptr && text == name) { return signal; }
  }
  return 0;
}

const char* set_signal(Options& options, std::string_view value)
{
  const int signal = signal_number(value);
  if (signal == 0) { return "it is no signal such as TERM, SIGTERM or 15"; }
  options.call.rules.end_signal = signal;
  return nullptr;
}

const char* set_nested(Options& options, std::string_view value)
{
  if (value == "fail") {
    options.call.request.nested = Nested::fail;
  } else if (value == "run") {
    options.call.request.nested = Nested::run;
  } else if (value == "wait") {
    options.call.request.nested = Nested::wait;
  } else {
    return "it is none of 'fail', 'run' and 'wait'";
  }
  return nullptr;
}

const char* set_api(Options& options, std::string_view value)
{
  if (value == "flock") {
    options.call.request.api = Api::flock;
  } else if (value == "ofd") {
    options.call.request.api = Api::ofd;
  } else if (value == "both") {
    options.call.request.api = Api::both;
  } else {
    return "it is none of 'flock', 'ofd' and 'both'";
  }
  return nullptr;
}

constexpr const char* k_no_offset = "it is no whole number from 0 to 4611686018427387904";

const char* set_start(Options& options, std::string_view value)
{
  const auto number = whole_number(value);
  if (!number || *number > Range{}.length) { return k_no_offset; }
  options.call.request.range.start = *number;
  return nullptr;
}

const char* set_length(Options& options, std::string_view value)
{
  const auto number = whole_number(value);
  if (!number || *number > Range{}.length) { return k_no_offset; }
  options.call.request.range.length = *number;
  return nullptr;
}

const char* set_fd(Options& options, std::string_view value)
{
  const auto number = whole_number(value);
  if (!number || *number > std::numeric_limits<int>::max()) { return "it is no descriptor's number"; }
  options.call.request.fd = static_cast<int>(*number);
  return nullptr;
}

const char* set_mode(Options& options, std::string_view value)
{
  const auto number = whole_number(value, 8);
  if (!number || *number > 07777) { return "it is no octal number from 0 to 7777"; }
  options.call.request.file.mode = static_cast<mode_t>(*number);
  return nullptr;
}

const char* set_progress(Options& options, std::string_view value)
{
  const auto interval = text::parse_duration(value.empty() ? "30s" : value);
  if (!interval) { return interval.error(); }
  if (*interval < std::chrono::seconds(1)) { return "it is less than a second"; }
  options.call.reporting.progress = *interval;
  return nullptr;
}

const char* set_events(Options& options, std::string_view value)
{
  if (value.empty()) { return "it is empty"; }
  if (value.starts_with("fd:")) {
    const std::string_view digits = value.substr(3);
    if (digits.empty() || digits.size() > 9 || digits.find_first_not_of("0123456789") != digits.npos) {
      return "a descriptor is a number behind 'fd:'; './fd:...' is a file of that name";
    }
  }
  options.call.reporting.events = value;
  return nullptr;
}

// Where several options contradict each other, the last one wins, because each only overwrites what the others wrote.
using enum OptionSpec::Value;
using Id = OptionId;
constexpr const char* k_kind = "Kind of lock";
constexpr const char* k_waiting = "Waiting";
constexpr const char* k_command = "The command";
constexpr const char* k_lifetime = "How long the lock is held";
constexpr const char* k_which = "Which lock";
constexpr const char* k_file = "The lock file";
constexpr const char* k_messages = "Messages";
constexpr const char* k_looking = "Instead of running a command";
constexpr const char* k_other = "Other";

// clang-format off
constexpr OptionSpec k_options[] = {
  {Id::exclusive, none, "xe", "exclusive", nullptr, k_kind,
   "only one process holds the lock (default)",
   [](Options& o, std::string_view) -> const char* { o.call.request.mode = Mode::exclusive; o.call.action = Action::run; return nullptr; }},
  {Id::shared, none, "s", "shared", nullptr, k_kind,
   "any number of shared holders, but no exclusive one",
   [](Options& o, std::string_view) -> const char* { o.call.request.mode = Mode::shared; o.call.action = Action::run; return nullptr; }},
  {Id::unlock, none, "u", "unlock", nullptr, k_kind,
   "free the lock of a descriptor FD",
   [](Options& o, std::string_view) -> const char* { o.call.action = Action::unlock_descriptor; return nullptr; }},
  {Id::slots, required, "j", "slots", "N", k_kind,
   "N holders at once, in order as with --fair; the\ncommand finds the number of its slot, 0 to N-1, in\nLOCKRUN_SLOT",
   set_slots},

  {Id::nonblock, none, "n", "nonblock nb nonblocking", nullptr, k_waiting,
   "do not wait",
   [](Options& o, std::string_view) -> const char* { o.call.request.patience = std::chrono::nanoseconds(0); return nullptr; }},
  {Id::wait, required, "w", "wait timeout", "DURATION", k_waiting,
   "wait at most that long: 90 (seconds), .5, 30s, 5m,\n1h30m, 2d, 250ms; 0 is -n",
   set_wait},
  {Id::conflict_exit_code, required, "E", "conflict-exit-code", "N", k_waiting,
   "exit status when the lock is busy or the time is up\n(0-255, default 75)",
   set_conflict_exit_code},
  {Id::fair, none, "", "fair", nullptr, k_waiting,
   "strictly first come first served, shared and\nexclusive alike, among all who say so",
   [](Options& o, std::string_view) -> const char* { o.call.request.fair = true; return nullptr; }},
  {Id::max_waiters, required, "", "max-waiters", "N", k_waiting,
   "do not wait when N wait already, of those who say so\n(not with --also)",
   set_max_waiters},
  {Id::nested, required, "", "nested", "fail|run|wait", k_waiting,
   "when an ancestor of lockrun holds LOCK and waits for\nus: fail (default, exit status 75), run the command\nunder the ancestor's lock, or wait all the same",
   set_nested},
  {Id::reentrant, none, "", "reentrant", nullptr, k_waiting,
   "the same as --nested run",
   [](Options& o, std::string_view) -> const char* { o.call.request.nested = Nested::run; return nullptr; }},

  {Id::command, required, "c", "command", "STRING", k_command,
   "run STRING with a shell",
   nullptr},
  {Id::shell, required, "", "shell", "PATH", k_command,
   "the shell for -c (default /bin/sh)",
   nullptr},
  {Id::no_fork, none, "F", "no-fork", nullptr, k_command,
   "become the command; the lock stays with it and with\nwhoever inherits it",
   [](Options& o, std::string_view) -> const char* { o.call.rules.lifetime = Lifetime::exec; return nullptr; }},

  {Id::hold, required, "", "hold", "command|tree|wrapper", k_lifetime,
   "command: until the command ends, also if lockrun is\nkilled (default); tree: until all that it started\nhas ended; wrapper: until lockrun ends, the command\ndoes not inherit the lock",
   set_hold},
  {Id::close, none, "o", "close", nullptr, k_lifetime,
   "the same as --hold wrapper",
   [](Options& o, std::string_view) -> const char* { o.call.rules.lifetime = Lifetime::wrapper; return nullptr; }},
  {Id::max_hold, required, "", "max-hold", "DURATION", k_lifetime,
   "end the command and all that it started when the\nlock is held that long (exit status 124)",
   set_max_hold},
  {Id::kill_after, required, "k", "kill-after", "DURATION", k_lifetime,
   "after --max-hold: kill what is left that much later\n(default 10s, exit status 137)",
   set_kill_after},
  {Id::signal, required, "", "signal", "NAME", k_lifetime,
   "what --max-hold sends at first (default TERM)",
   set_signal},

  {Id::api, required, "", "api", "flock|ofd|both", k_which,
   "the kernel's lock: flock(2) (default), fcntl(2), or\nthe one and then the other",
   set_api},
  {Id::fcntl, none, "", "fcntl", nullptr, k_which,
   "the same as --api ofd",
   [](Options& o, std::string_view) -> const char* { o.call.request.api = Api::ofd; return nullptr; }},
  {Id::start, required, "", "start", "N", k_which,
   "first byte of the range (default 0); implies\n--api ofd",
   set_start},
  {Id::length, required, "", "length", "N", k_which,
   "bytes in the range, 0 for all (default); implies\n--api ofd",
   set_length},
  {Id::also, required, "", "also", "LOCK", k_which,
   "this lock, too: all or none, in one time limit, and\nin whatever order without a deadlock",
   [](Options& o, std::string_view value) { return add_lock(o, value, Mode::exclusive); }},
  {Id::also_shared, required, "", "also-shared", "LOCK", k_which,
   "the same, but this one is shared",
   [](Options& o, std::string_view value) { return add_lock(o, value, Mode::shared); }},
  {Id::fd, required, "", "fd", "FD", k_which,
   "lock this descriptor instead of a file",
   set_fd},

  {Id::mode, required, "", "mode", "OCTAL", k_file,
   "permissions on creation, umask not applied\n(default 0666 less umask)",
   set_mode},
  {Id::no_create, none, "", "no-create", nullptr, k_file,
   "a missing file is an error",
   [](Options& o, std::string_view) -> const char* { o.call.request.file.create = false; return nullptr; }},
  {Id::no_follow, none, "", "no-follow", nullptr, k_file,
   "LOCK may not be a symbolic link",
   [](Options& o, std::string_view) -> const char* { o.call.request.file.follow = false; return nullptr; }},
  {Id::unlink, none, "", "unlink", nullptr, k_file,
   "remove it at the end, if it is empty and nobody else\nholds it",
   [](Options& o, std::string_view) -> const char* { o.call.request.file.unlink = true; return nullptr; }},

  {Id::verbose, none, "v", "verbose", nullptr, k_messages,
   "say more",
   [](Options& o, std::string_view) -> const char* { o.call.reporting.verbosity = Verbosity::verbose; return nullptr; }},
  {Id::quiet, none, "q", "quiet", nullptr, k_messages,
   "failures only",
   [](Options& o, std::string_view) -> const char* { o.call.reporting.verbosity = Verbosity::quiet; return nullptr; }},

  {Id::progress, optional, "", "progress", "DURATION", k_messages,
   "while waiting, say so each DURATION (default 30s),\nnot only once; a terminal shows it all the time",
   set_progress},
  {Id::events, required, "", "events", "FILE|fd:N", k_messages,
   "append what happens as JSON, a line for each event",
   set_events},
  {Id::syslog, none, "", "syslog", nullptr, k_messages,
   "tell failures, and that it was busy, to the system's\nlog too",
   [](Options& o, std::string_view) -> const char* { o.call.reporting.syslog = true; return nullptr; }},

  {Id::status, none, "", "status", nullptr, k_looking,
   "tell who holds each LOCK and who waits for it; exit\nstatus 0 if all are free, 75 if not",
   nullptr},
  {Id::json, none, "", "json", nullptr, k_looking,
   "with --status: for programs, one object a line",
   [](Options& o, std::string_view) -> const char* { o.question.json = true; return nullptr; }},
  {Id::probe, none, "", "probe", nullptr, k_looking,
   "find out whether locking works where LOCK is",
   nullptr},

  {Id::help, none, "h", "help", nullptr, k_other,
   "show this help",
   nullptr},
  {Id::version, none, "V", "version", nullptr, k_other,
   "show the version",
   nullptr},
};
// clang-format on

} // namespace

std::span<const OptionSpec> option_table()
{
  return k_options;
}

} // namespace lockrun::cli
