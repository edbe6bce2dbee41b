#include "cli/leased.hpp"

#include "cli/failure_words.hpp"
#include "cli/holder_words.hpp"
#include "cli/wait_line.hpp"
#include "sys/clock.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lockrun::cli {
namespace {

using remote::Engine;
using remote::EngineLease;
using std::chrono::nanoseconds;
using std::chrono::seconds;

class Listener final : public remote::EngineListener, private WaitFactsSource {
public:
  Listener(const Call& call, Reporter& reporter) : m_call(call), m_reporter(reporter) {}
  ~Listener() override { m_line.end(); }

  nanoseconds waiting(nanoseconds waited, const std::string& holder, std::optional<std::int64_t> position) override
  {
    if (!m_began) {
      m_began = waited;
      m_reporter.waiting(m_call.request);
    }
    m_holder = holder.empty() ? "another process" : engine_words(holder);
    m_position = position;
    return m_line.look(waited - *m_began, *this);
  }
  void trouble(const std::string& text) override
  {
    if (std::exchange(m_last_trouble, text) == text) { return; }
    m_line.end(); // it is drawn anew below
    m_reporter.trouble(text);
  }

private:
  bool refresh() override { return true; } // the engine says what it knows by itself
  WaitFacts facts(nanoseconds waited) const override
  {
    WaitFacts facts{lock_name(m_call.request), "held by " + m_holder, m_holder};
    if (m_position) { facts.place = "we are number " + std::to_string(*m_position); }
    if (m_call.request.patience) { facts.left = *m_call.request.patience - *m_began - waited; }
    return facts;
  }

  const Call& m_call;
  Reporter& m_reporter;
  WaitLine m_line{m_call.reporting};
  std::string m_last_trouble;
  std::string m_holder;
  std::optional<std::int64_t> m_position;
  std::optional<nanoseconds> m_began;
};

// Passes on what the engine says while the command runs, and reports it.
class ReportingConnection final : public remote::LeaseConnection {
public:
  ReportingConnection(Engine& engine, Reporter& reporter) : m_engine(engine), m_reporter(reporter) {}

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
      if (!std::exchange(m_is_in_trouble, true)) { m_reporter.trouble(event.text); }
      return {News::Kind::other, {}};
    case Engine::Event::Kind::lost:
      m_reporter.lost(event.text);
      return {News::Kind::lost, event.deadline};
    }
    return {};
  }
  void ran_out() override { m_reporter.lease_ran_out(); }
  void abandon() override { m_engine.abandon(); }
  void release_unheard() override { m_engine.release_unheard(); }

private:
  Engine& m_engine;
  Reporter& m_reporter;
  bool m_is_in_trouble = false;
};

// What others see of the command.
std::string published_command(const Call& call)
{
  if (call.engine.published == Published::command) { return plain_command(call.command); }
  const std::string_view word = call.command.front();
  return std::string(word.substr(word.rfind('/') + 1)); // npos + 1 is 0
}

} // namespace

Result<child::Ending, Error> LeasedLock::run(const sys::Program& program, const child::Supervision& how)
{
  ReportingConnection connection(m_engine, m_reporter);
  const CommandRules& rules = m_call.rules;
  const auto terms = remote::lease_terms(m_lease.deadline, m_lease.ttl, rules.kill_after, rules.asks_for_grace);
  return m_guard.run(program, how, terms, rules.end_signal, connection);
}

bool LeasedLock::release(const Result<child::Ending, Error>& ending)
{
  const bool was_lost = ending ? ending->how == child::Ending::How::lost : ending.error().reason == Reason::lost;
  // A server that does not answer for so long will not do so before the lock has run out by itself, or soon after. The
  // engine for etcd tries for five seconds, and has more to say then than we know.
  const nanoseconds patience = was_lost ? seconds(1) : std::min<nanoseconds>(m_lease.ttl, seconds(6));
  const auto released = m_engine.release(patience);
  if (!was_lost && released == Engine::Release::was_lost) {
    m_reporter.lost_late();
    return false;
  }
  if (!was_lost && released == Engine::Release::unknown) { m_reporter.not_released(m_lease.ttl); }
  m_reporter.released(!was_lost && released == Engine::Release::done);
  return true;
}

Result<std::unique_ptr<LeasedLock>, Error> obtain_leased(const Call& call, Reporter& reporter, const Signals& signals)
{
  auto guard = remote::Guard::prepare();
  if (!guard) { return tl::unexpected(Error{Reason::start_failed, call.command.front(), guard.error()}); }
  const auto about_lock = [&](Error error) {
    error.target = call.request.path;
    return tl::unexpected(std::move(error));
  };
  auto engine = Engine::start(remote::engine_name(call.engine.url), signals.inherited);
  if (!engine) { return about_lock(engine.error()); }
  guard->leave_out(engine->pid());
  Listener listener(call, reporter);
  const remote::EngineQuestion question{call.request, {call.engine.ttl, published_command(call)}, signals.ending};
  auto lease = engine->acquire(call.engine.url, question, listener);
  if (!lease) { return about_lock(lease.error()); }
  if (lease->is_ancestors) { return nullptr; }
  return std::make_unique<LeasedLock>(std::move(*guard), std::move(*engine), *std::move(lease), call, reporter);
}

} // namespace lockrun::cli
