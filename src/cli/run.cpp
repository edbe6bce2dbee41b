#include "cli/run.hpp"

#include "child/supervise.hpp"
#include "cli/exit_code.hpp"
#include "cli/report.hpp"
#include "cli/run_beyond.hpp"
#include "cli/standard_descriptors.hpp"
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

// These end a wait; while the command runs they are for the command.
constexpr std::initializer_list<int> k_ending_signals = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

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

int answer(const Error& error, const Options& options)
{
  report(error, options);
  return exit_code_for(error, options.conflict_exit_code);
}

// What the command inherits: with a descriptor of the caller's it has that already.
std::vector<const sys::Descriptor*> inherited_descriptors(const Lock& lock, const Options& options)
{
  std::vector<const sys::Descriptor*> inherited;
  if (options.request.fd || options.lifetime == Lifetime::wrapper) { return inherited; }
  for (const Hold& hold : lock.holds()) { inherited.push_back(&hold.fd); }
  return inherited;
}

int run_holding(Lock& lock, const Options& options, const sys::SignalSet& mask)
{
  const auto told = told_to_command(options.request, lock.slot());
  const auto environment = sys::environment_with(told);
  const auto inherited = inherited_descriptors(lock, options);
  const sys::Program program{
    options.command.front(), options.command.data(), mask, false, inherited, environment.data()};
  if (options.lifetime == Lifetime::exec) {
    return answer(child::start_error(program.file, sys::execute(program)), options);
  }
  SupervisionReport observer(options);
  const auto ending = child::run(program, supervision_of(options, observer));
  if (const auto released = lock.release(); !released) { report_release_failure(released.error(), options); }
  if (!ending) { return answer(ending.error(), options); }
  report_left_behind(ending->left_behind);
  if (ending->by_terminal && ending->value == SIGINT) {
    // A shell ends a script or a loop on Ctrl-C only when what it runs has died of it.
    (void)sys::kill(sys::process_id(), SIGINT);
    (void)sys::set_signal_mask(mask);
  }
  return exit_code_for(*ending);
}

// The lock stays with the descriptor that the caller opened.
int lock_descriptor(const Options& options, const WaitPlan& plan, const sys::SignalSet& inherited)
{
  const auto lock = acquire(options.request, plan);
  if (lock) { return k_success; }
  const int status = answer(lock.error(), options);
  const bool by_signal = lock.error().reason == Reason::interrupted;
  return by_signal ? end_by_signal(lock.error().cause.code, status, inherited) : status;
}

int unlock_descriptor(const Options& options)
{
  const auto unlocked = unlock(options.request);
  return unlocked ? k_success : answer(unlocked.error(), options);
}

} // namespace

int end_by_signal(int signal, int status, const sys::SignalSet& inherited)
{
  (void)sys::kill(sys::process_id(), signal);
  (void)sys::set_signal_mask(inherited);
  return status; // it has no default action
}

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
  if (const auto filled = fill_standard_descriptors(); !filled) {
    return answer({Reason::open_failed, "/", filled.error()}, options);
  }
  if (options.action == Action::unlock_descriptor) { return unlock_descriptor(options); }
  // A message to a closed pipe must not end us while the command runs.
  sys::SignalSet blocked(k_ending_signals);
  blocked.add(SIGPIPE);
  const sys::SignalSet inherited = sys::block_signals(blocked);
  WaitPlan plan;
  sys::SignalSet ended_by;
  for (const int signal : k_ending_signals) {
    if (!inherited.contains(signal)) { ended_by.add(signal); }
  }
  if (!options.engine_url.empty()) { return run_beyond(options, ended_by, inherited); }
  plan.ended_by = ended_by.raw();
  plan.detect_deadlock = true;
  if (options.action == Action::lock_descriptor) { return lock_descriptor(options, plan, inherited); }
  auto lock = acquire(options.request, plan);
  if (!lock) {
    const int status = answer(lock.error(), options);
    const bool by_signal = lock.error().reason == Reason::interrupted;
    return by_signal ? end_by_signal(lock.error().cause.code, status, inherited) : status;
  }
  return run_holding(*lock, options, inherited);
}

} // namespace lockrun::cli
