#include "cli/run.hpp"

#include "child/supervise.hpp"
#include "cli/exit_code.hpp"
#include "cli/lock_environment.hpp"
#include "cli/obtain.hpp"
#include "cli/reporter.hpp"
#include "cli/signals.hpp"
#include "startup/standard_descriptors.hpp"
#include "sys/clock.hpp"
#include "sys/process.hpp"
#include "sys/signal.hpp"

#include <lockrun/lock.hpp>

#include <optional>

namespace lockrun::cli {
namespace {

// How the call ends: with an exit status, or by a signal, so that our parent sees what it would see of any program.
struct Outcome {
  int status = k_success;
  int signal = 0;
};

Outcome failed(const Error& error, Reporter& reporter)
{
  const bool by_signal = error.reason == Reason::interrupted || error.reason == Reason::called_off;
  return {reporter.failed(error), by_signal ? error.cause.code : 0};
}

child::Supervision supervision_of(const Call& call, child::Observer& observer)
{
  const CommandRules& rules = call.rules;
  child::Supervision how;
  how.until_tree_ends = rules.lifetime == Lifetime::tree;
  how.names_left_behind = call.reporting.verbosity == Verbosity::verbose;
  how.observer = &observer;
  if (rules.max_hold) {
    how.limit = child::TimeLimit{sys::elapsed_now() + *rules.max_hold, rules.kill_after, rules.end_signal};
  }
  return how;
}

Outcome run_command(const Call& call, Reporter& reporter, const Signals& signals)
{
  report_number(call);
  auto holding = obtain(call, reporter, signals);
  if (!holding) { return failed(holding.error(), reporter); }
  const auto supervision = supervision_of(call, reporter); // the time counts before anybody is told
  const LockFacts facts = holding->facts();
  reporter.acquired(facts.slot, facts.token);
  const auto told = lock_environment(call.request, facts);
  const auto environment = sys::environment_with(told);
  const auto inherited = holding->descriptors();
  const sys::Program program{
    call.command.front(), call.command.data(), signals.inherited, false, inherited, environment.data()};
  auto ending = holding->run(program, supervision);
  const bool was_ours = holding->release(ending);
  if (!ending) { return failed(ending.error(), reporter); }
  if (!was_ours) { ending->how = child::Ending::How::lost; }
  // A shell ends a script or a loop on Ctrl-C only when what it runs has died of it.
  const int signal = ending->by_terminal && ending->value == SIGINT ? SIGINT : 0;
  return {reporter.ended(*ending), signal};
}

// The lock stays with the descriptor that the caller opened.
Outcome lock_descriptor(const Call& call, Reporter& reporter, const Signals& signals)
{
  auto holding = obtain(call, reporter, signals);
  if (!holding) { return failed(holding.error(), reporter); }
  reporter.acquired(holding->facts().slot);
  return {reporter.done()};
}

Outcome unlock_descriptor(const Call& call, Reporter& reporter)
{
  reporter.begin();
  const auto unlocked = unlock(call.request);
  return {unlocked ? reporter.done() : reporter.failed(unlocked.error())};
}

Outcome carry_out(const Call& call, Reporter& reporter, const Signals& signals)
{
  switch (call.action) {
  case Action::unlock_descriptor:
    return unlock_descriptor(call, reporter);
  case Action::lock_descriptor:
    return lock_descriptor(call, reporter, signals);
  default:
    return run_command(call, reporter, signals);
  }
}

// Whether it counts which processes the command has started.
bool tree_matters(const Call& call)
{
  const Lifetime lifetime = call.rules.lifetime;
  if (call.action != Action::run || lifetime == Lifetime::exec) { return false; }
  return lifetime == Lifetime::tree || call.rules.max_hold || !call.engine.url.empty() ||
         call.reporting.verbosity == Verbosity::verbose;
}

// Another process has carried out the call, and we end like that. None: we have to carry it out.
std::optional<int> run_apart(const Call& call)
{
  if (!tree_matters(call)) { return std::nullopt; }
  const sys::SignalSet mask = sys::block_signals({});
  const auto ending = child::keep_strangers_apart(call.command.front());
  if (!ending) {
    report(ending.error(), call.request, call.reporting);
    return exit_code_for(ending.error(), call.conflict_exit_code);
  }
  if (!*ending) { return std::nullopt; }
  const int exit_code = exit_code_for(**ending);
  return (*ending)->how == child::Ending::How::killed ? end_by_signal((*ending)->value, exit_code, mask) : exit_code;
}

} // namespace

int run(const Call& call)
{
  if (const auto exit_code = run_apart(call)) { return *exit_code; }
  Reporter reporter(call);
  if (const auto filled = fill_standard_descriptors(); !filled) {
    return report_no_files(filled.error(), call.reporting);
  }
  // A message to a closed pipe, or to a file that may not grow, must not end us while the command runs. What else ends
  // a process does so until the lock is ours or the wait has begun.
  static constexpr sys::SignalSet k_fatal_to_writers{SIGPIPE, SIGXFSZ};
  const Signals signals(sys::block_signals(k_fatal_to_writers));
  const Outcome outcome = carry_out(call, reporter, signals);
  return outcome.signal == 0 ? outcome.status : end_by_signal(outcome.signal, outcome.status, signals.inherited);
}

} // namespace lockrun::cli
