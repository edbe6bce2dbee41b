#pragma once

#include "cli/obtain.hpp"
#include "remote/engine.hpp"
#include "remote/guard.hpp"

#include <memory>
#include <utility>

namespace lockrun::cli {

// A lock that an engine holds for us, and that can be lost. As Holding, which see.
class LeasedLock {
public:
  LeasedLock(
    remote::Guard guard, remote::Engine engine, remote::EngineLease lease, const Call& call, Reporter& reporter)
    : m_guard(std::move(guard)), m_engine(std::move(engine)), m_lease(std::move(lease)), m_call(call),
      m_reporter(reporter)
  {}

  LockFacts facts() const { return {m_lease.slot, m_lease.token, m_lease.epoch, m_lease.key, m_lease.deadline}; }
  Result<child::Ending, Error> run(const sys::Program& program, const child::Supervision& how);
  bool release(const Result<child::Ending, Error>& ending);

private:
  remote::Guard m_guard;
  remote::Engine m_engine;
  remote::EngineLease m_lease;
  const Call& m_call;
  Reporter& m_reporter;
};

// Starts the engine and gets the lock. Null: the lock of an ancestor covers what was asked for, as --nested run wants.
// Signals are blocked by now.
Result<std::unique_ptr<LeasedLock>, Error> obtain_leased(const Call& call, Reporter& reporter, const Signals& signals);

} // namespace lockrun::cli
