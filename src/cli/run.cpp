#include "cli/run.hpp"

#include "child/supervise.hpp"
#include "cli/exit_code.hpp"
#include "cli/progress.hpp"
#include "cli/report.hpp"
#include "cli/run_beyond.hpp"
#include "cli/signals.hpp"
#include "cli/standard_descriptors.hpp"
#include "lock/acquire.hpp"
#include "lock/hold.hpp"
#include "sys/clock.hpp"
#include "sys/process.hpp"
#include "sys/signal.hpp"

#include <lockrun/lock.hpp>

#include <optional>
#include <string>
#include <vector>

namespace lockrun::cli {
namespace {

// What the command finds in its environment.
std::vector<std::string> told_to_command(const LockRequest& request, std::optional<int> slot)
{
  std::vector<std::string> told;
  told.reserve(3);
  told.emplace_back("LOCKRUN_LOCK=").append(request.fd ? std::to_string(*request.fd) : request.path);
  told.emplace_back("LOCKRUN_PID=").append(std::to_string(sys::process_id()));
  if (slot) { told.emplace_back("LOCKRUN_SLOT=").append(std::to_string(*slot)); }
  return told;
}

int answer(const Error& error, const Options& options, EventLog& events, const LockStatus* seen = nullptr)
{
  const int exit_code = exit_code_for(error, options.conflict_exit_code);
  report(error, options, seen);
  events.finished(error, exit_code, seen);
  return exit_code;
}

// There is no lock, or no command.
int end(const Error& error, const Options& options, EventLog& events, const sys::SignalSet& inherited,
  const LockStatus* seen = nullptr)
{
  const int exit_code = answer(error, options, events, seen);
  const bool by_signal = error.reason == Reason::interrupted || error.reason == Reason::called_off;
  return by_signal ? end_by_signal(error.cause.code, exit_code, inherited) : exit_code;
}

// What the command inherits: with a descriptor of the caller's it has that already.
std::vector<const sys::Descriptor*> inherited_descriptors(const Lock& lock, const Options& options)
{
  std::vector<const sys::Descriptor*> inherited;
  if (options.request.fd || options.lifetime == Lifetime::wrapper) { return inherited; }
  for (const Hold& hold : lock.holds()) { inherited.push_back(&hold.fd); }
  return inherited;
}

// A signal ends us while the removal of the lock file does not come back from a dead file server: the command has
// ended, and the lock is free as soon as our descriptor is closed.
class Removal final : public WaitObserver {
public:
  Removal(const Result<child::Ending, Error>& ending, EventLog& events)
    : m_ending(ending), m_exit_code(ending ? exit_code_for(*ending) : k_software), m_events(events)
  {}
  bool talks() const override { return false; }
  std::chrono::nanoseconds look(std::chrono::nanoseconds) override { return std::chrono::hours(24); }
  void stuck(const Error& reason) override
  {
    if (m_ending) { m_events.finished(*m_ending, m_exit_code); }
    end_now(reason);
  }
  void end_now(const Error&) override { sys::exit_now(m_exit_code); }

private:
  const Result<child::Ending, Error>& m_ending;
  int m_exit_code;
  EventLog& m_events;
};

Result<void, Error> release(Lock& lock, const Result<child::Ending, Error>& ending, const Options& options,
  EventLog& events, const Signals& signals)
{
  if (!options.request.file.unlink) { return lock.release(); }
  Removal removal(ending, events);
  WaitPlan plan;
  plan.ended_by = signals.ending.raw();
  plan.observer = &removal;
  LockRequest untimed;
  untimed.path = options.request.path;
  Watch watch(plan, untimed);
  (void)watch.begin(); // without a thread it goes on unwatched
  watch.listen();
  return lock.release();
}

int run_holding(Lock& lock, const Options& options, EventLog& events, const Signals& signals)
{
  const sys::SignalSet& mask = signals.inherited;
  SupervisionReport observer(options, events);
  const auto supervision = supervision_of(options, observer); // the time counts before anybody is told
  events.acquired(lock.slot());
  const auto told = told_to_command(options.request, lock.slot());
  const auto environment = sys::environment_with(told);
  const auto inherited = inherited_descriptors(lock, options);
  const sys::Program program{
    options.command.front(), options.command.data(), mask, false, inherited, environment.data()};
  if (options.lifetime == Lifetime::exec) {
    return answer(child::start_error(program.file, sys::execute(program)), options, events);
  }
  const bool is_verbose = options.verbosity == Verbosity::verbose;
  const auto acquired = is_verbose ? sys::steady_now() : std::chrono::nanoseconds(0);
  const auto ending = child::run(program, supervision);
  const auto released = release(lock, ending, options, events, signals);
  if (!released) { report_release_failure(released.error(), options); }
  events.released();
  if (is_verbose) { report_released(sys::steady_now() - acquired, options); }
  if (!ending) { return end(ending.error(), options, events, mask); }
  log_ending(*ending, options);
  report_left_behind(ending->left_behind);
  const int exit_code = exit_code_for(*ending);
  events.finished(*ending, exit_code);
  if (ending->by_terminal && ending->value == SIGINT) {
    // A shell ends a script or a loop on Ctrl-C only when what it runs has died of it.
    (void)sys::kill(sys::process_id(), SIGINT);
    (void)sys::set_signal_mask(mask);
  }
  return exit_code;
}

// Why there is no lock, and who has it.
struct Refusal {
  Error error;
  std::optional<Sight> seen;
};

int end(const Refusal& refusal, const Options& options, EventLog& events, const sys::SignalSet& inherited)
{
  return end(refusal.error, options, events, inherited, refusal.seen ? &refusal.seen->status : nullptr);
}

// Whether it counts which processes the command has started.
bool tree_matters(const Options& options)
{
  if (options.action != Action::run || options.lifetime == Lifetime::exec) { return false; }
  return options.lifetime == Lifetime::tree || options.max_hold || !options.engine_url.empty() ||
         options.verbosity == Verbosity::verbose;
}

// Another process has carried out the call, and we end like that.
int end_like(const child::Ending& ending, const sys::SignalSet& mask)
{
  const int exit_code = exit_code_for(ending);
  return ending.how == child::Ending::How::killed ? end_by_signal(ending.value, exit_code, mask) : exit_code;
}

// Gets the lock, and talks while it waits. The time limit and signals hold from the first step on.
Result<Lock, Refusal> acquire_talking(const Options& options, EventLog& events, const Signals& signals)
{
  Progress progress(options, events, signals);
  WaitPlan plan;
  plan.ended_by = signals.ending.raw();
  plan.observer = &progress;
  plan.detect_deadlock = true;
  plan.is_likely_nested = sys::environment("LOCKRUN_PID") != nullptr;
  // As long as the process: to wait for its thread would cost a change of threads on the way to the command.
  Watch& watch = *new Watch(plan, options.request);
  watch.begin_if_limited();
  events.begin();
  const bool is_verbose = options.verbosity == Verbosity::verbose;
  const auto began = is_verbose ? sys::steady_now() : std::chrono::nanoseconds(0);
  auto lock = acquire(options.request, watch);
  watch.end_for_good();
  if (lock) { signals.block(); }
  progress.end();
  if (!lock) { return tl::unexpected(Refusal{lock.error(), progress.last_look(lock.error())}); }
  if (is_verbose) { report_acquired(sys::steady_now() - began, options); }
  return std::move(*lock);
}

// The lock stays with the descriptor that the caller opened.
int lock_descriptor(const Options& options, EventLog& events, const Signals& signals)
{
  const auto lock = acquire_talking(options, events, signals);
  if (!lock) { return end(lock.error(), options, events, signals.inherited); }
  events.acquired(lock->slot());
  events.finished(k_success);
  return k_success;
}

int unlock_descriptor(const Options& options, EventLog& events)
{
  const auto unlocked = unlock(options.request);
  if (!unlocked) { return answer(unlocked.error(), options, events); }
  events.finished(k_success);
  return k_success;
}

} // namespace

child::Supervision supervision_of(const Options& options, child::Observer& observer)
{
  child::Supervision how;
  how.until_tree_ends = options.lifetime == Lifetime::tree;
  how.names_left_behind = options.verbosity == Verbosity::verbose;
  how.observer = &observer;
  if (options.max_hold) {
    how.limit = child::TimeLimit{sys::elapsed_now() + *options.max_hold, options.kill_after, options.end_signal};
  }
  return how;
}

int run(const Options& options)
{
  if (tree_matters(options)) {
    const sys::SignalSet mask = sys::block_signals({});
    const auto ending = child::keep_strangers_apart(options.command.front());
    if (!ending) {
      report(ending.error(), options);
      return exit_code_for(ending.error(), options.conflict_exit_code);
    }
    if (*ending) { return end_like(**ending, mask); }
  }
  EventLog events(options);
  if (const auto filled = fill_standard_descriptors(); !filled) { return report_no_files(filled.error(), options); }
  // A message to a closed pipe, or to a file that may not grow, must not end us while the command runs. What else ends
  // a process does so until the lock is ours or the wait has begun.
  static constexpr sys::SignalSet k_fatal_to_writers{SIGPIPE, SIGXFSZ};
  const Signals signals(sys::block_signals(k_fatal_to_writers));
  if (options.action == Action::unlock_descriptor) {
    events.begin();
    return unlock_descriptor(options, events);
  }
  if (!options.engine_url.empty()) {
    events.begin();
    signals.block();
    return run_beyond(options, events, signals.ending, signals.inherited);
  }
  if (options.action == Action::lock_descriptor) { return lock_descriptor(options, events, signals); }
  report_number(options);
  auto lock = acquire_talking(options, events, signals);
  if (!lock) { return end(lock.error(), options, events, signals.inherited); }
  return run_holding(*lock, options, events, signals);
}

} // namespace lockrun::cli
