#include "cli/report.hpp"

#include "cli/exit_code.hpp"
#include "cli/hints.hpp"
#include "cli/holder_words.hpp"
#include "cli/system_log.hpp"
#include "sys/file.hpp"
#include "sys/process.hpp"
#include "text/duration.hpp"
#include "text/quote.hpp"
#include "text/words.hpp"

#include <lockrun/status.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace lockrun::cli {
namespace {

// For readers that are slow. Who does not read at all must not keep us: no signal would end us.
constexpr std::chrono::seconds k_patience_with_reader{3};

void tell(std::string_view text)
{
  // Nobody is left to be told when this fails, or what follows.
  static bool is_read = true;
  if (is_read) {
    is_read = sys::offer_standard_error(fmt::format("lockrun: {}\n", text), k_patience_with_reader).has_value();
  }
}

// To the system's log as well, if that is wanted.
void announce(const Options& options, Severity severity, std::string_view text)
{
  if (severity == Severity::failure || options.verbosity != Verbosity::quiet) { tell(text); }
  if (options.syslog) { log_to_system(severity, text); }
}

void fail(const Options& options, std::string_view text)
{
  announce(options, Severity::failure, text);
}

// For those who have to go on, whether anybody reads or not: a full pipe must not keep a tree from being ended.
void tell_now(std::string_view text)
{
  (void)sys::offer_standard_error(fmt::format("lockrun: {}\n", text));
}

void tell_hint(std::string_view text, Verbosity verbosity)
{
  if (!text.empty() && verbosity != Verbosity::quiet) { tell(fmt::format("hint: {}", text)); }
}

std::string lock_name(const Options& options)
{
  return options.request.fd ? fmt::format("descriptor {}", *options.request.fd) : text::quoted(options.request.path);
}

// The one that the error is about: there may be several.
std::string lock_name(const Error& error, const Options& options)
{
  return options.request.fd ? lock_name(options) : text::quoted(error.target);
}

// What follows "is ": who has it.
std::string held_words_of(const LockStatus* seen)
{
  return seen != nullptr ? held_words(*seen) : "held by another process";
}

// Why it is busy for us, who may not overtake them, although the holder would share it or there is a slot.
std::string queue_words(const LockStatus* seen, const LockRequest& request)
{
  const bool queues = request.fair || request.slots > 0;
  if (!queues || seen == nullptr || seen->waiters.empty() || seen->holders.empty()) { return {}; }
  return fmt::format(", and {} wait already", seen->waiters.size());
}

// Whether anybody wants to hear that it was busy.
bool is_told(const Options& options)
{
  return options.syslog || options.verbosity != Verbosity::quiet;
}

bool locks_bytes(const LockRequest& request)
{
  return request.fair || request.slots > 0 || request.max_waiters;
}

// "cannot open 'x': …".
void fail_to(const char* verb, const std::string& name, const Error& error, const Options& options)
{
  fail(options, fmt::format("cannot {} {}: {}", verb, name, text::errno_words(error.cause.code)));
}

void report_not_run(const Error& error, const Options& options)
{
  const std::string name = text::quoted(error.target);
  const std::string hint = hint_for_command(error);
  const bool is_searched = error.target.find('/') == error.target.npos;
  // If PATH has it, something that it needs is missing.
  if (error.reason == Reason::not_found && is_searched && hint.empty()) {
    fail(options, fmt::format("cannot run {}: not found in PATH", name));
    if (error.target.starts_with('-')) { tell_hint("options go before LOCK", options.verbosity); }
    return;
  }
  fail_to("run", name, error, options);
  tell_hint(hint, options.verbosity);
}

// "PID 4312 (rsync), PID 4313 (sleep) and 3 more".
std::string words_of(const std::vector<sys::ProcessStatus>& members)
{
  constexpr std::size_t k_named = 10;
  std::string words;
  for (std::size_t i = 0; i < std::min(members.size(), k_named); ++i) {
    words += fmt::format("{}PID {} ({})", i == 0 ? "" : ", ", members[i].pid, text::escaped(members[i].name));
  }
  if (members.size() > k_named) { words += fmt::format(" and {} more", members.size() - k_named); }
  return words;
}

void report_busy(const std::string& name, const std::string& held, const Options& options)
{
  announce(options, Severity::note, fmt::format("{} is {}", name, held));
}

void report_timed_out(const std::string& name, const std::string& held, const Options& options)
{
  announce(options, Severity::warning,
    fmt::format("gave up waiting for {} after {}, {}", name, text::duration_text(*options.request.patience), held));
}

void report_interrupted(const std::string& name, int signal, const Options& options)
{
  announce(options, Severity::note, fmt::format("gave up waiting for {}: got {}", name, text::signal_name(signal)));
}

std::string ending_words(int signal)
{
  const std::string name = text::signal_name(signal);
  const char* const kind = name.starts_with("SIG") ? "" : "signal ";
  return fmt::format("ending the command and all that it started with {}{}", kind, name);
}

void report_nested(const Error& error, const Options& options, std::string_view name)
{
  const Party& holder = error.parties.front();
  const pid_t us = sys::process_id();
  const bool is_ours = holder.pid == us;
  const std::string who = is_ours
                            ? fmt::format("through a descriptor that this lockrun (PID {}) inherited", us)
                            : fmt::format("by {}, a parent process of this lockrun (PID {})", party_words(holder), us);
  if (options.request.nested == Nested::run) {
    fail(options, fmt::format("{} is held shared {}: no exclusive lock can be had under it", name, who));
    tell_hint("--nested wait waits until that lock is released", options.verbosity);
    return;
  }
  fail(options, fmt::format("{} is held {}, which probably {}", name, who,
                  is_ours ? "keeps it locked while this lockrun waits" : "waits for it"));
  tell_hint("use --nested run to run under that lock, or --nested wait to wait anyway", options.verbosity);
}

std::string hint_for_deadlock(const Error& error, const Options& options)
{
  const auto waits_for_first = [&](const Party& party) { return party.waits_for == error.parties.front().waits_for; };
  const bool is_one_lock = std::all_of(error.parties.begin(), error.parties.end(), waits_for_first);
  if (is_one_lock && options.request.slots > 0) {
    return "a command that holds a slot must not wait for another one of the same lock, unless there are enough for "
           "all";
  }
  if (is_one_lock) { return "a command that holds part of a lock must not wait for another part of it"; }
  return options.request.slots > 0
           ? "take the locks in the same order everywhere"
           : "take the locks in the same order everywhere, or all of them in one call with --also";
}

void report_deadlock(const Error& error, const Options& options, std::string_view name)
{
  fail(options,
    fmt::format("gave up waiting for {}: {} processes wait for one another in a circle", name, error.parties.size()));
  for (const Party& party : error.parties) {
    fail(options, fmt::format("{} waits for {}", party_words(party), text::quoted(party.waits_for)));
  }
  tell_hint(hint_for_deadlock(error, options), options.verbosity);
}

// The option that asks for what an engine says it can do (lockrun-engine(7), can=).
std::string option_of(std::string capability)
{
  std::replace(capability.begin(), capability.end(), '_', '-');
  return "--" + capability;
}

void report_wrong_type(const std::string& name, int code, const Options& options)
{
  const bool has_queue = locks_bytes(options.request);
  if (code != 0) { // a directory, for writing
    fail(options, fmt::format("cannot open {} for writing: {}", name, text::errno_words(code)));
    tell_hint(
      has_queue ? "--fair, --slots and --max-waiters need a regular file" : "only --api flock can lock a directory",
      options.verbosity);
  } else if (has_queue) {
    fail(options, fmt::format("cannot lock {}: --fair, --slots and --max-waiters need a regular file", name));
  } else {
    const char* const lockable = options.action == Action::probe ? "neither a regular file nor a directory"
                                                                 : "neither a regular file, a directory nor a device";
    fail(options, fmt::format("cannot lock {}: it is {}", name, lockable));
  }
}

void report_unsafe_place(const Error& error, const Options& options)
{
  const std::string directory = text::quoted(error.target);
  if (error.cause.code != 0) {
    fail(options, fmt::format("cannot use the directory {}: {}", directory, text::errno_words(error.cause.code)));
  } else {
    fail(options, fmt::format("cannot use the directory {}: it is not this user's, or others may enter it", directory));
  }
  tell_hint("somebody else made it; look with 'ls -ld', and let its owner or root remove it", options.verbosity);
}

void report_failure(const Error& error, const Options& options, const LockStatus* seen)
{
  const std::string name = lock_name(error, options);
  switch (error.reason) {
  case Reason::busy:
    if (is_told(options)) { report_busy(name, held_words_of(seen) + queue_words(seen, options.request), options); }
    return;
  case Reason::too_many_waiters:
    if (is_told(options)) {
      announce(options, Severity::note,
        fmt::format("{} is {}, and the limit of waiters ({}) is reached", name, held_words_of(seen),
          *options.request.max_waiters));
    }
    return;
  case Reason::timed_out:
    if (is_told(options)) {
      const bool is_silent = error.cause.code == ETIMEDOUT;
      report_timed_out(name, is_silent ? "a file server does not answer" : held_words_of(seen), options);
    }
    return;
  case Reason::deadlock:
    return report_deadlock(error, options, name);
  case Reason::nested:
    return report_nested(error, options, name);
  case Reason::unsafe_place:
    return report_unsafe_place(error, options);
  case Reason::interrupted:
    return report_interrupted(name, error.cause.code, options);
  case Reason::missing:
  case Reason::open_failed:
    fail_to("open", name, error, options);
    tell_hint(hint_for_open(error, options), options.verbosity);
    return;
  case Reason::wrong_type:
    return report_wrong_type(name, error.cause.code, options);
  case Reason::harmful_device:
    return fail(options,
      fmt::format("cannot lock {}: opening a watchdog starts its countdown, and closing a tape rewinds it", name));
  case Reason::not_removed:
    return fail(options, fmt::format("cannot remove {}: {}; the lock on it is released", text::quoted(error.target),
                           text::errno_words(error.cause.code)));
  case Reason::lock_failed:
    fail_to("lock", name, error, options);
    tell_hint(hint_for_lock(error, options), options.verbosity);
    return;
  case Reason::bad_descriptor:
    fail_to("lock", name, error, options);
    tell_hint(hint_for_descriptor(error, options), options.verbosity);
    return;
  case Reason::start_failed:
    fail(options, fmt::format("cannot start {}: {}: {}", text::quoted(error.target), error.cause.call,
                    text::errno_words(error.cause.code)));
    if (error.cause.code == EOPNOTSUPP) {
      tell_hint("what a command starts is found in a /proc of this pid namespace only; see 'unshare --mount-proc'",
        options.verbosity);
    }
    return;
  case Reason::called_off:
    announce(options, Severity::note,
      fmt::format("did not start {}: got {}", text::quoted(error.target), text::signal_name(error.cause.code)));
    return;
  case Reason::unknown_ending:
    fail(options, fmt::format("cannot tell how {} ended: {}: {}", text::quoted(error.target), error.cause.call,
                    text::errno_words(error.cause.code)));
    return;
  case Reason::lost:
    fail(options, fmt::format("{} was not ours for long enough to start {}", lock_name(options), name));
    return;
  case Reason::not_found:
  case Reason::not_executable:
    return report_not_run(error, options);
  }
}

} // namespace

void report(const Error& error, const Options& options, const LockStatus* seen)
{
  report_failure(error, options, seen);
  if (error.has_lost_shared) {
    fail(
      options, fmt::format("{} is not locked any more: the kernel gave up its shared lock to try for the exclusive one",
                 lock_name(options)));
  }
}

void report_number(const Options& options)
{
  tell_hint(hint_for_number(options), options.verbosity);
}

void report(const UsageError& error)
{
  // A URL may stand anywhere in a command line.
  tell(plain_command(error.text));
  tell_hint(plain_command(error.hint), Verbosity::normal);
  tell("try 'lockrun --help'");
}

void report_release_failure(const Error& error, const Options& options)
{
  if (error.reason == Reason::not_removed) { return report(error, options); }
  fail(options, fmt::format("cannot unlock {}: {}; it is released when the last process that inherited it ends",
                  lock_name(options), text::errno_words(error.cause.code)));
}

int report_no_files(const SysError& error, const Options& options)
{
  const char* const hint = error.code == EMFILE ? "; see 'ulimit -n'" : "";
  fail(options, fmt::format("cannot open any file: {}{}", text::errno_words(error.code), hint));
  return exit_code_for({Reason::open_failed, {}, error}, options.conflict_exit_code);
}

void report_events_failure(const SysError& error, const Options& options)
{
  // Whoever does not read our events may not read this either.
  tell_now(fmt::format(
    "cannot write events to {}: {}, going on without", text::quoted(options.events), text::errno_words(error.code)));
}

void SupervisionReport::overtime(const child::TimeLimit& limit)
{
  tell_now(fmt::format("{} has been held for {}, the limit: {}", lock_name(m_options),
    text::duration_text(*m_options.max_hold), ending_words(limit.signal)));
  m_events.overtime(limit);
}

void SupervisionReport::cannot_end(const std::vector<sys::ProcessStatus>& members)
{
  const char* const consequence = m_options.engine_url.empty() ? "keeping {} locked" : "not releasing {}";
  const std::string text = fmt::format("cannot end {}; {} until they have ended", words_of(members),
    fmt::format(fmt::runtime(consequence), lock_name(m_options)));
  tell_now(text);
  if (m_options.syslog) { log_to_system(Severity::failure, text); }
}

void SupervisionReport::cannot_pass_on(int signal, const std::vector<sys::ProcessStatus>& command)
{
  tell_now(
    fmt::format("cannot pass {} on to {}: {}", text::signal_name(signal), words_of(command), text::errno_words(EPERM)));
}

void SupervisionReport::lease_ran_out()
{
  m_events.lost("it could not be renewed in time");
  tell_now(
    fmt::format("{} could not be renewed in time: {}", lock_name(m_options), ending_words(m_options.end_signal)));
}

namespace {

// What an engine or another host says, fit for a terminal and without the passwords of URLs in it.
std::string engine_words(const std::string& text)
{
  return text::escaped(plain_command(text));
}

} // namespace

void report(const backends::EngineFailure& failure, const Options& options)
{
  using Kind = backends::EngineFailure::Kind;
  const std::string name = lock_name(options);
  const std::string held =
    failure.holder.empty() ? "held by another process" : "held by " + engine_words(failure.holder);
  switch (failure.kind) {
  case Kind::busy:
    return report_busy(name, held, options);
  case Kind::timed_out:
    return report_timed_out(name, held, options);
  case Kind::too_many_waiters:
    announce(options, Severity::note,
      fmt::format("{} is {}, and the limit of {} waiting for it is reached", name, held,
        options.request.max_waiters.value_or(0)));
    return;
  case Kind::interrupted:
    return report_interrupted(name, failure.code, options);
  case Kind::nested: {
    const Error error{Reason::nested, options.request.path, {},
      {{failure.holder_pid, sys::command_line(failure.holder_pid).value_or(""), {}}}};
    return report_nested(error, options, name);
  }
  case Kind::missing: {
    fail(options, fmt::format("cannot find '{}', which {} needs", failure.text, name));
    std::string looked;
    for (const std::string& place : failure.places) { looked += (looked.empty() ? "" : " and ") + text::quoted(place); }
    const bool is_etcd = backends::engine_name(options.engine_url) == "etcd"; // the only one of our own
    const char* const advice =
      is_etcd ? "a build with -DLOCKRUN_ETCD=ON makes it" : "lockrun's own engines are: etcd; others may be added";
    return tell_hint(fmt::format("it is not in {}; {}", looked, advice), options.verbosity);
  }
  case Kind::not_started:
    if (!failure.places.empty()) {
      return fail(options,
        fmt::format("cannot start {}: {}", text::quoted(failure.places.front()), text::errno_words(failure.code)));
    }
    return fail(options,
      fmt::format("cannot start the engine of {}: {}: {}", name, failure.text, text::errno_words(failure.code)));
  case Kind::unable:
    return fail(
      options, fmt::format("cannot lock {}: '{}' cannot do '{}'", name, failure.holder, option_of(failure.text)));
  case Kind::refused:
    fail(options, fmt::format("cannot lock {}: {}", name, engine_words(failure.text)));
    return tell_hint(engine_words(failure.hint), options.verbosity);
  case Kind::silent:
    return fail(options, fmt::format("cannot lock {}: '{}' does not answer", name, failure.text));
  case Kind::ended:
    return fail(options, fmt::format("cannot lock {}: '{}' has ended without an answer", name, failure.text));
  case Kind::nonsense:
    return fail(
      options, fmt::format("cannot lock {}: '{}' sends {}", name, failure.text, engine_words(failure.holder)));
  case Kind::too_late:
    return fail(options, fmt::format("cannot run {}: too little time is left of {}, which is ours for {} at a time",
                           text::quoted(options.command.front()), name, failure.text));
  }
}

void report_waiting(const std::string& holder, std::optional<std::int64_t> position, const Options& options)
{
  if (options.verbosity == Verbosity::quiet) { return; }
  const std::string who = holder.empty() ? "another process" : engine_words(holder);
  const std::string place = position ? fmt::format(", we are number {}", *position) : "";
  tell_now(fmt::format("waiting for {}, held by {}{}", lock_name(options), who, place));
}

void report_trouble(const std::string& text, const Options& options)
{
  if (options.verbosity == Verbosity::quiet) { return; }
  tell_now(fmt::format("trouble with {}: {}, trying again", lock_name(options), engine_words(text)));
}

void report_loss(const std::string& reason, const Options& options)
{
  tell_now(
    fmt::format("{} is lost: {}; {}", lock_name(options), engine_words(reason), ending_words(options.end_signal)));
}

void report_late_loss(const Options& options)
{
  fail(options,
    fmt::format("{} was lost before it was released: the command may not have been alone", lock_name(options)));
}

void report_not_released(std::chrono::nanoseconds ttl, const Options& options)
{
  if (options.verbosity == Verbosity::quiet) { return; }
  tell(fmt::format(
    "{} could not be released; it is free in {} at the latest", lock_name(options), text::duration_text(ttl)));
}

void log_ending(const child::Ending& ending, const Options& options)
{
  if (!options.syslog) { return; }
  const auto log = [&](Severity severity, const std::string& what) {
    log_to_system(severity, fmt::format("{} {}: ended {} and all that it started{}", lock_name(options), what,
                              text::quoted(options.command.front()), ending.needed_kill ? ", with SIGKILL" : ""));
  };
  if (ending.how == child::Ending::How::overtime) {
    log(Severity::warning, fmt::format("was held for {}, the limit", text::duration_text(*options.max_hold)));
  }
  if (ending.how == child::Ending::How::lost) { log(Severity::failure, "was lost"); }
}

void report_acquired(std::chrono::nanoseconds waited, const Options& options)
{
  tell_now(fmt::format("got {} after {}", lock_name(options), text::duration_text(waited)));
}

void report_released(std::chrono::nanoseconds held, const Options& options)
{
  tell_now(fmt::format("released {} after {}", lock_name(options), text::duration_text(held)));
}

void report_left_behind(const std::vector<sys::ProcessStatus>& members)
{
  if (!members.empty()) { tell_now(fmt::format("the command left running: {}", words_of(members))); }
}

} // namespace lockrun::cli
