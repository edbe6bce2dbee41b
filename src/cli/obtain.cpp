#include "cli/obtain.hpp"

#include "cli/exit_code.hpp"
#include "cli/leased.hpp"
#include "cli/progress.hpp"
#include "lock/acquire.hpp"
#include "lock/hold.hpp"
#include "sys/process.hpp"

#include <lockrun/lock.hpp>

#include <utility>
#include <vector>

namespace lockrun::cli {
namespace {

// A signal ends us while the removal of the lock file does not come back from a dead file server: the command has
// ended, and the lock is free as soon as our descriptor is closed.
class Removal final : public WaitObserver {
public:
  Removal(const Result<child::Ending, Error>& ending, Reporter& reporter)
    : m_ending(ending), m_exit_code(ending ? exit_code_for(*ending) : k_software), m_reporter(reporter)
  {}
  bool talks() const override { return false; }
  std::chrono::nanoseconds look(std::chrono::nanoseconds) override { return std::chrono::hours(24); }
  void stuck(const Error& reason) override
  {
    if (m_ending) { (void)m_reporter.ended(*m_ending); }
    end_now(reason);
  }
  void end_now(const Error&) override { sys::exit_now(m_exit_code); }

private:
  const Result<child::Ending, Error>& m_ending;
  int m_exit_code;
  Reporter& m_reporter;
};

Result<Holding, Error> obtain_local(const Call& call, Reporter& reporter, const Signals& signals)
{
  Progress progress(call, reporter, signals);
  WaitPlan plan;
  plan.ended_by = signals.ending.raw();
  plan.observer = &progress;
  plan.detect_deadlock = true;
  plan.is_likely_nested = sys::environment("LOCKRUN_PID") != nullptr;
  // As long as the process: to wait for its thread would cost a change of threads on the way to the command.
  Watch& watch = *new Watch(plan, call.request);
  watch.begin_if_limited();
  reporter.begin();
  auto lock = acquire(call.request, watch);
  watch.end_for_good();
  if (lock) { signals.block(); }
  progress.end();
  if (!lock) { return tl::unexpected(progress.with_holders(std::move(lock.error()))); }
  return Holding(std::move(*lock), call, reporter, signals);
}

} // namespace

Holding::Holding(Lock lock, const Call& call, Reporter& reporter, const Signals& signals) noexcept
  : m_lock(std::move(lock)), m_call(call), m_reporter(reporter), m_signals(signals)
{}

Holding::Holding(
  std::unique_ptr<LeasedLock> leased, const Call& call, Reporter& reporter, const Signals& signals) noexcept
  : m_lock({}), m_leased(std::move(leased)), m_call(call), m_reporter(reporter), m_signals(signals)
{}

Holding::Holding(Holding&& other) noexcept = default;
Holding::~Holding() = default;

LockFacts Holding::facts() const
{
  return m_leased != nullptr ? m_leased->facts() : LockFacts{m_lock.slot()};
}

// With a descriptor of the caller's the command has that already.
std::vector<const sys::Descriptor*> Holding::descriptors() const
{
  std::vector<const sys::Descriptor*> inherited;
  if (m_call.request.fd || m_call.rules.lifetime == Lifetime::wrapper) { return inherited; }
  for (const Hold& hold : m_lock.holds()) { inherited.push_back(&hold.fd); }
  return inherited;
}

Result<child::Ending, Error> Holding::run(const sys::Program& program, const child::Supervision& how)
{
  if (m_leased != nullptr) { return m_leased->run(program, how); }
  if (m_call.rules.lifetime != Lifetime::exec) { return child::run(program, how); }
  return tl::unexpected(child::start_error(program.file, sys::execute(program)));
}

bool Holding::release(const Result<child::Ending, Error>& ending)
{
  if (m_leased != nullptr) { return m_leased->release(ending); }
  const auto released = m_call.request.file.unlink ? remove(ending) : m_lock.release();
  if (!released) { m_reporter.not_released(released.error()); }
  m_reporter.released();
  return true;
}

Result<void, Error> Holding::remove(const Result<child::Ending, Error>& ending)
{
  Removal removal(ending, m_reporter);
  WaitPlan plan;
  plan.ended_by = m_signals.ending.raw();
  plan.observer = &removal;
  LockRequest untimed;
  untimed.path = m_call.request.path;
  Watch watch(plan, untimed);
  (void)watch.begin(); // without a thread it goes on unwatched
  watch.listen();
  return m_lock.release();
}

Result<Holding, Error> obtain(const Call& call, Reporter& reporter, const Signals& signals)
{
  if (call.engine.url.empty()) { return obtain_local(call, reporter, signals); }
  reporter.begin();
  signals.block();
  auto leased = obtain_leased(call, reporter, signals);
  if (!leased) { return tl::unexpected(leased.error()); }
  if (*leased) { return Holding(std::move(*leased), call, reporter, signals); }
  return Holding(Lock({}), call, reporter, signals); // that of an ancestor
}

} // namespace lockrun::cli
