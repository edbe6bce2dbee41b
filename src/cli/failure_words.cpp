#include "cli/failure_words.hpp"

#include "cli/hints.hpp"
#include "cli/holder_words.hpp"
#include "cli/reason_table.hpp"
#include "lock/lock_file.hpp"
#include "sys/process.hpp"
#include "text/duration.hpp"
#include "text/quote.hpp"
#include "text/words.hpp"

#include <lockrun/status.hpp>

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

namespace lockrun::cli {
namespace {

using text::errno_words;

// The one that the error is about: there may be several.
std::string lock_name(const Error& error, const LockRequest& request)
{
  return request.fd ? cli::lock_name(request) : text::quoted(error.target);
}

// What follows "is ": who has it.
std::string held_by(const Error& error)
{
  if (!error.holder.empty()) { return "held by " + engine_words(error.holder); }
  const bool is_known =
    error.seen != nullptr && (error.seen->holders.empty() || error.seen->holders.front().api != LockApi::engine);
  return is_known ? held_words(*error.seen) : "held by another process";
}

// Why it is busy for us, who may not overtake them, although the holder would share it or there is a slot.
std::string queue_words(const Error& error, const LockRequest& request)
{
  const bool is_in_turn = request.fair || request.slots > 0;
  if (!is_in_turn || error.seen == nullptr || error.seen->waiters.empty() || error.seen->holders.empty()) { return {}; }
  return fmt::format(", and {} wait already", error.seen->waiters.size());
}

FailureWords conflict_words(const Error& error, const LockRequest& request, const std::string& name)
{
  if (error.reason == Reason::timed_out) {
    const bool is_silent = error.cause.code == ETIMEDOUT;
    return {{fmt::format("gave up waiting for {} after {}, {}", name, text::duration_text(*request.patience),
      is_silent ? "a file server does not answer" : held_by(error))}};
  }
  std::string fact = fmt::format("{} is {}", name, held_by(error));
  if (error.reason == Reason::busy) {
    fact += queue_words(error, request);
  } else {
    fact += fmt::format(", and the limit of waiters ({}) is reached", request.max_waiters.value_or(0));
  }
  return {{fact}};
}

FailureWords nested_words(const Error& error, const LockRequest& request, const std::string& name)
{
  const Party& holder = error.parties.front();
  const pid_t us = sys::process_id();
  const bool is_ours = holder.pid == us;
  const std::string who = is_ours
                            ? fmt::format("through a descriptor that this lockrun (PID {}) inherited", us)
                            : fmt::format("by {}, a parent process of this lockrun (PID {})", party_words(holder), us);
  if (request.nested == Nested::run) {
    return {{fmt::format("{} is held shared {}: no exclusive lock can be had under it", name, who)},
      "--nested wait waits until that lock is released"};
  }
  const char* const consequence = is_ours ? "keeps it locked while this lockrun waits" : "waits for it";
  return {{fmt::format("{} is held {}, which probably {}", name, who, consequence)},
    "use --nested run to run under that lock, or --nested wait to wait anyway"};
}

std::string hint_for_deadlock(const Error& error, const LockRequest& request)
{
  const auto waits_for_first = [&](const Party& party) { return party.waits_for == error.parties.front().waits_for; };
  const bool is_one_lock = std::all_of(error.parties.begin(), error.parties.end(), waits_for_first);
  if (is_one_lock && request.slots > 0) {
    return "a command that holds a slot must not wait for another one of the same lock, unless there are enough for "
           "all";
  }
  if (is_one_lock) { return "a command that holds part of a lock must not wait for another part of it"; }
  return request.slots > 0 ? "take the locks in the same order everywhere"
                           : "take the locks in the same order everywhere, or all of them in one call with --also";
}

FailureWords deadlock_words(const Error& error, const LockRequest& request, const std::string& name)
{
  FailureWords words;
  words.facts.push_back(
    fmt::format("gave up waiting for {}: {} processes wait for one another in a circle", name, error.parties.size()));
  for (const Party& party : error.parties) {
    words.facts.push_back(fmt::format("{} waits for {}", party_words(party), text::quoted(party.waits_for)));
  }
  words.hint = hint_for_deadlock(error, request);
  return words;
}

FailureWords wrong_type_words(const Error& error, const LockRequest& request, const std::string& name)
{
  constexpr const char* k_regular = "--fair, --slots and --max-waiters need a regular file";
  const bool has_queue = queues(request);
  if (error.cause.code != 0) { // a directory, for writing
    return {{fmt::format("cannot open {} for writing: {}", name, errno_words(error.cause.code))},
      has_queue ? k_regular : "only --api flock can lock a directory"};
  }
  if (has_queue) { return {{fmt::format("cannot lock {}: {}", name, k_regular)}}; }
  const std::string lockable = error.detail.empty() ? "neither a regular file, a directory nor a device" : error.detail;
  return {{fmt::format("cannot lock {}: it is {}", name, lockable)}};
}

FailureWords unsafe_place_words(const Error& error)
{
  const std::string why =
    error.cause.code != 0 ? errno_words(error.cause.code) : "it is not this user's, or others may enter it";
  return {{fmt::format("cannot use the directory {}: {}", text::quoted(error.target), why)},
    "somebody else made it; look with 'ls -ld', and let its owner or root remove it"};
}

// "cannot open 'x': ...".
FailureWords cannot(const char* verb, const std::string& name, const Error& error, std::string hint = {})
{
  return {{fmt::format("cannot {} {}: {}", verb, name, errno_words(error.cause.code))}, std::move(hint)};
}

// About the command, and a call that the kernel refused.
FailureWords cannot_for_call(const char* what, const Error& error)
{
  return {{fmt::format(fmt::runtime(what), text::quoted(error.target)) +
           fmt::format(": {}: {}", error.cause.call, errno_words(error.cause.code))}};
}

FailureWords not_run_words(const Error& error)
{
  const std::string name = text::quoted(error.target);
  std::string hint = hint_for_command(error);
  const bool is_searched = error.target.find('/') == error.target.npos;
  // If PATH has it, something that it needs is missing.
  if (error.reason == Reason::not_found && is_searched && hint.empty()) {
    return {{fmt::format("cannot run {}: not found in PATH", name)},
      error.target.starts_with('-') ? "options go before LOCK" : ""};
  }
  return cannot("run", name, error, std::move(hint));
}

// The option that asks for what an engine says it can do (lockrun-engine(7), can=).
std::string option_of(std::string capability)
{
  std::replace(capability.begin(), capability.end(), '_', '-');
  return "--" + capability;
}

FailureWords engine_failure_words(const Error& error, const std::string& name)
{
  const auto failure = [](std::string fact, std::string hint = {}) {
    return FailureWords{{std::move(fact)}, std::move(hint)};
  };
  switch (error.reason) {
  case Reason::engine_missing: {
    const bool is_etcd = error.detail == "lockrun-engine-etcd"; // the only one of our own
    const char* const advice =
      is_etcd ? "a build with -DLOCKRUN_ETCD=ON makes it" : "lockrun's own engines are: etcd; others may be added";
    return failure(
      fmt::format("cannot find '{}', which {} needs", error.detail, name), fmt::format("{}; {}", error.hint, advice));
  }
  case Reason::engine_not_started:
    return error.detail.empty() ? failure(fmt::format("cannot start the engine of {}: {}: {}", name, error.cause.call,
                                    errno_words(error.cause.code)))
                                : cannot("start", text::quoted(error.detail), error);
  case Reason::engine_unable:
    return failure(fmt::format("cannot lock {}: '{}' cannot do '{}'", name, error.holder, option_of(error.detail)));
  case Reason::engine_refused:
    return failure(fmt::format("cannot lock {}: {}", name, engine_words(error.detail)), engine_words(error.hint));
  case Reason::engine_silent:
    return failure(fmt::format("cannot lock {}: '{}' does not answer", name, error.detail));
  case Reason::engine_ended:
    return failure(fmt::format("cannot lock {}: '{}' has ended without an answer", name, error.detail));
  default:
    return failure(fmt::format("cannot lock {}: '{}' sends {}", name, error.detail, engine_words(error.holder)));
  }
}

} // namespace

bool is_conflict(Reason reason)
{
  return reason == Reason::busy || reason == Reason::too_many_waiters || reason == Reason::timed_out;
}

std::string lock_name(const LockRequest& request)
{
  return request.fd ? fmt::format("descriptor {}", *request.fd) : text::quoted(request.path);
}

std::string ending_words(int signal)
{
  const std::string name = text::signal_name(signal);
  const char* const kind = name.starts_with("SIG") ? "" : "signal ";
  return fmt::format("ending the command and all that it started with {}{}", kind, name);
}

std::string engine_words(const std::string& text)
{
  return text::escaped(plain_command(text));
}

FailureWords words_of(const Error& error, const LockRequest& request)
{
  const std::string name = lock_name(error, request);
  switch (error.reason) {
  case Reason::busy:
  case Reason::too_many_waiters:
  case Reason::timed_out:
    return conflict_words(error, request, name);
  case Reason::deadlock:
    return deadlock_words(error, request, name);
  case Reason::nested:
    return nested_words(error, request, name);
  case Reason::unsafe_place:
    return unsafe_place_words(error);
  case Reason::interrupted:
    return {{fmt::format("gave up waiting for {}: got {}", name, text::signal_name(error.cause.code))}};
  case Reason::missing:
  case Reason::open_failed:
    return cannot("open", name, error, hint_for_open(error, request));
  case Reason::wrong_type:
    return wrong_type_words(error, request, name);
  case Reason::harmful_device:
    return {
      {fmt::format("cannot lock {}: opening a watchdog starts its countdown, and closing a tape rewinds it", name)}};
  case Reason::not_removed:
    return {{fmt::format(
      "cannot remove {}: {}; the lock on it is released", text::quoted(error.target), errno_words(error.cause.code))}};
  case Reason::lock_failed:
    return cannot("lock", name, error, hint_for_lock(error, request));
  case Reason::bad_descriptor:
    return cannot("lock", name, error, hint_for_descriptor(error, request));
  case Reason::start_failed: {
    FailureWords words = cannot_for_call("cannot start {}", error);
    if (error.cause.code == EOPNOTSUPP) {
      words.hint = "what a command starts is found in a /proc of this pid namespace only; see 'unshare --mount-proc'";
    }
    return words;
  }
  case Reason::called_off:
    return {{fmt::format("did not start {}: got {}", text::quoted(error.target), text::signal_name(error.cause.code))}};
  case Reason::unknown_ending:
    return cannot_for_call("cannot tell how {} ended", error);
  case Reason::lost:
    return {
      {fmt::format("{} was not ours for long enough to start {}", lock_name(request), text::quoted(error.target))}};
  case Reason::not_found:
  case Reason::not_executable:
    return not_run_words(error);
  default:
    return engine_failure_words(error, name);
  }
}

} // namespace lockrun::cli
