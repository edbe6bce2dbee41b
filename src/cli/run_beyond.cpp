#include "cli/run_beyond.hpp"

#include "backends/engine.hpp"
#include "child/guard.hpp"
#include "cli/exit_code.hpp"
#include "cli/holder_words.hpp"
#include "cli/report.hpp"
#include "cli/run.hpp"
#include "cli/signals.hpp"
#include "sys/clock.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lockrun::cli {
namespace {

using backends::Engine;
using backends::EngineFailure;
using backends::Grant;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

int answer(const Error& error, const Options& options, EventLog& events)
{
  const int exit_code = exit_code_for(error, options.conflict_exit_code);
  report(error, options);
  events.finished(error, exit_code);
  return exit_code;
}

int answer(const EngineFailure& failure, const Options& options, EventLog& events)
{
  const int exit_code = exit_code_for(failure, options.conflict_exit_code);
  report(failure, options);
  events.finished(failure, exit_code);
  return exit_code;
}

class Listener final : public backends::EngineListener {
public:
  Listener(const Options& options, EventLog& events) : m_options(options), m_events(events) {}

  nanoseconds waiting(nanoseconds waited, const std::string& holder, std::optional<std::int64_t> position) override
  {
    if (!std::exchange(m_is_told, true)) { m_events.waiting(m_options.request); }
    constexpr seconds k_silence{1}; // most waits are over by then
    if (waited < k_silence) { return k_silence - waited; }
    report_waiting(holder, position, m_options);
    return m_options.progress.value_or(std::chrono::hours(24));
  }
  void trouble(const std::string& text) override
  {
    if (std::exchange(m_last_trouble, text) != text) { report_trouble(text, m_options); }
  }

private:
  std::string m_last_trouble;
  bool m_is_told = false;
  const Options& m_options;
  EventLog& m_events;
};

// Passes on what the engine says while the command runs.
class EngineKeeper final : public child::Keeper {
public:
  EngineKeeper(Engine& engine, const Options& options, EventLog& events)
    : m_engine(engine), m_options(options), m_events(events)
  {}

  const sys::Descriptor& source() const override { return m_engine.socket(); }
  News news() override
  {
    const Engine::Event event = m_engine.next_event();
    switch (event.kind) {
    case Engine::Event::Kind::none:
      break;
    case Engine::Event::Kind::renewed:
      m_is_in_trouble = false;
      return {News::Kind::renewed, event.deadline};
    case Engine::Event::Kind::trouble:
      if (!std::exchange(m_is_in_trouble, true)) { report_trouble(event.text, m_options); }
      return {News::Kind::other, {}};
    case Engine::Event::Kind::lost:
      if (!std::exchange(m_is_lost, true)) { report_loss(event.text, m_options); }
      m_events.lost(event.text);
      return {News::Kind::lost, event.deadline};
    }
    return {};
  }
  void abandon() override { m_engine.abandon(); }
  void release_unheard() override { m_engine.release_unheard(); }

private:
  Engine& m_engine;
  const Options& m_options;
  EventLog& m_events;
  bool m_is_in_trouble = false;
  bool m_is_lost = false;
};

// What others see of the command.
std::string published_command(const Options& options)
{
  if (options.published == Published::command) { return plain_command(options.command); }
  const std::string_view word = options.command.front();
  return std::string(word.substr(word.rfind('/') + 1)); // npos + 1 is 0
}

// What the command finds in its environment. Each variable of an engine's lock has a twin that ends with the depth of
// nesting, so that a lock inside of another hides nothing: LOCKRUN_TOKEN is the innermost, LOCKRUN_TOKEN_1 the
// outermost.
class Told {
public:
  Told(const Options& options, const Grant& grant)
  {
    while (sys::environment(("LOCKRUN_TOKEN_" + std::to_string(m_depth)).c_str()) != nullptr) { ++m_depth; }
    m_assignments.push_back("LOCKRUN_PID=" + std::to_string(sys::process_id()));
    put("LOCKRUN_LOCK", options.request.path);
    put("LOCKRUN_TOKEN", grant.token);
    put("LOCKRUN_DEADLINE", std::to_string(std::chrono::floor<milliseconds>(grant.deadline).count()));
    put("LOCKRUN_KEY", grant.key);
    put("LOCKRUN_TOKEN_EPOCH", grant.epoch);
    put("LOCKRUN_SLOT", grant.slot ? std::to_string(*grant.slot) : "");
  }
  const std::vector<std::string>& assignments() const noexcept { return m_assignments; }

private:
  void put(const std::string& name, const std::string& value)
  {
    if (!value.empty()) { m_assignments.push_back(name + "_" + std::to_string(m_depth) + "=" + value); }
    // What this lock does not have must not seem to be that of the lock around it.
    if (!value.empty() || sys::environment(name.c_str()) != nullptr) { m_assignments.push_back(name + "=" + value); }
  }

  int m_depth = 1;
  std::vector<std::string> m_assignments;
};

child::LeaseTerms terms_of(const Grant& grant, const Options& options)
{
  child::LeaseTerms terms{};
  terms.deadline = grant.deadline;
  terms.margin = std::max<nanoseconds>(milliseconds(200), grant.ttl / 50);
  // Time to end in is time in which the lock is not renewed any more: without a wish for it an outage may take more.
  terms.grace = std::min(options.kill_after, grant.ttl / (options.asks_for_grace ? 3 : 15));
  // Half of the margin, so that the other half is left for the kernel and us.
  terms.last_grace = options.asks_for_grace ? terms.grace : std::min(terms.grace, terms.margin / 2);
  return terms;
}

// Gives the lock back. Whether it turns out that it was none any more, and the command may have been not alone.
bool release(Engine& engine, const Grant& grant, bool was_lost, nanoseconds acquired, const Options& options)
{
  // A server that does not answer for so long will not do so before the lock has run out by itself, or soon after. The
  // engine for etcd tries for five seconds, and has more to say then than we know.
  const nanoseconds patience = was_lost ? seconds(1) : std::min<nanoseconds>(grant.ttl, seconds(6));
  const auto released = engine.release(patience);
  if (was_lost) { return false; }
  if (released == Engine::Release::done) {
    if (options.verbosity == Verbosity::verbose) { report_released(sys::steady_now() - acquired, options); }
    return false;
  }
  if (released == Engine::Release::unknown) {
    report_not_released(grant.ttl, options);
    return false;
  }
  report_late_loss(options);
  return true;
}

struct Outcome {
  int status = 0;
  int signal = 0; // that has to end us, if one has
};

Outcome outcome_of(const Result<child::Ending, Error>& ending, const Options& options, EventLog& events)
{
  if (!ending) {
    const Error& error = ending.error();
    return {answer(error, options, events), error.reason == Reason::called_off ? error.cause.code : 0};
  }
  log_ending(*ending, options);
  report_left_behind(ending->left_behind);
  const int exit_code = exit_code_for(*ending);
  events.finished(*ending, exit_code);
  // A shell ends a script or a loop on Ctrl-C only when what it runs has died of it.
  return {exit_code, ending->by_terminal && ending->value == SIGINT ? SIGINT : 0};
}

Outcome run_holding(child::Guard& guard, Engine& engine, const Grant& grant, const Options& options, EventLog& events,
  const sys::SignalSet& mask)
{
  SupervisionReport observer(options, events);
  const auto supervision = supervision_of(options, observer); // the time counts before anybody is told
  events.acquired(grant.slot, grant.token);
  const char* const file = options.command.front();
  const Told told(options, grant);
  const auto environment = sys::environment_with(told.assignments());
  const sys::Program program{file, options.command.data(), mask, false, {}, environment.data()};
  EngineKeeper keeper(engine, options, events);
  const auto terms = terms_of(grant, options);
  const auto acquired = sys::steady_now();
  auto ending = guard.run(program, supervision, terms, options.end_signal, keeper);
  const bool was_lost = ending ? ending->how == child::Ending::How::lost : ending.error().reason == Reason::lost;
  const bool is_lost_late = release(engine, grant, was_lost, acquired, options);
  events.released();
  if (is_lost_late) { events.lost("it was lost before it was released"); }
  if (ending && is_lost_late) { ending->how = child::Ending::How::lost; }
  return outcome_of(ending, options, events);
}

// An ancestor of ours holds the lock, and the command is to run under that.
Outcome run_under_ancestor(const Options& options, EventLog& events, const sys::SignalSet& mask)
{
  const sys::Program program{options.command.front(), options.command.data(), mask};
  SupervisionReport observer(options, events);
  events.acquired(std::nullopt);
  const auto ending = child::run(program, supervision_of(options, observer));
  events.released();
  return outcome_of(ending, options, events);
}

// From the engine's start to its end.
Outcome run_with_engine(
  const Options& options, EventLog& events, const sys::SignalSet& ended_by, const sys::SignalSet& inherited)
{
  auto guard = child::Guard::prepare();
  if (!guard) { return {answer({Reason::start_failed, options.command.front(), guard.error()}, options, events)}; }
  sys::SignalSet engines_mask = inherited;
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) { engines_mask.add(signal); }
  auto engine = Engine::start(backends::engine_name(options.engine_url), engines_mask);
  if (!engine) { return {answer(engine.error(), options, events)}; }
  guard->leave_out(engine->pid());
  Listener listener(options, events);
  const auto began = sys::steady_now();
  const auto grant =
    engine->acquire(options.engine_url, {options.request, options.ttl, published_command(options), ended_by}, listener);
  if (grant && options.verbosity == Verbosity::verbose) { report_acquired(sys::steady_now() - began, options); }
  if (grant) { return run_holding(*guard, *engine, *grant, options, events, inherited); }
  const EngineFailure& failure = grant.error();
  const bool is_covered = failure.kind == EngineFailure::Kind::nested && failure.covers;
  if (is_covered && options.request.nested == Nested::run) { return run_under_ancestor(options, events, inherited); }
  const bool by_signal = failure.kind == EngineFailure::Kind::interrupted;
  return {answer(failure, options, events), by_signal ? failure.code : 0};
}

} // namespace

int run_beyond(
  const Options& options, EventLog& events, const sys::SignalSet& ended_by, const sys::SignalSet& inherited)
{
  const Outcome outcome = run_with_engine(options, events, ended_by, inherited);
  return outcome.signal == 0 ? outcome.status : end_by_signal(outcome.signal, outcome.status, inherited);
}

} // namespace lockrun::cli
