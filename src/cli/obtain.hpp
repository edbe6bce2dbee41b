#pragma once

#include "child/supervise.hpp"
#include "cli/reporter.hpp"
#include "cli/signals.hpp"
#include "options/call.hpp"

#include <lockrun/error.hpp>
#include <lockrun/lock.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace lockrun::cli {

class LeasedLock;

// What is known of a lock that is ours; empty or none: it has none.
struct LockFacts {
  std::optional<int> slot{};
  std::string_view token{}; // of an engine's lock, as the rest
  std::string_view epoch{};
  std::string_view key{};
  std::optional<std::chrono::nanoseconds> deadline{}; // on the elapsed clock
};

// A lock that is ours, wherever it is granted. Borrows what it was obtained with.
class Holding {
public:
  // In this machine's kernel; or an ancestor's, if `lock` has no descriptors.
  Holding(Lock lock, const Call& call, Reporter& reporter, const Signals& signals) noexcept;
  Holding(std::unique_ptr<LeasedLock> leased, const Call& call, Reporter& reporter, const Signals& signals) noexcept;
  Holding(Holding&& other) noexcept;
  Holding& operator=(Holding&& other) = delete;
  ~Holding();

  LockFacts facts() const;

  // What the command inherits.
  std::vector<const sys::Descriptor*> descriptors() const;

  // Runs the command under the lock, and returns when it has ended as Supervision says.
  Result<child::Ending, Error> run(const sys::Program& program, const child::Supervision& how);

  // Gives the lock back, and says what becomes of that. `ending`: what run() returned; it is how the call ends if a
  // signal ends us meanwhile. False if the lock had been lost before: the command may not have been alone.
  bool release(const Result<child::Ending, Error>& ending);

private:
  Result<void, Error> remove(const Result<child::Ending, Error>& ending);

  Lock m_lock;
  std::unique_ptr<LeasedLock> m_leased; // null: m_lock is it
  const Call& m_call;
  Reporter& m_reporter;
  const Signals& m_signals;
};

// Gets the lock that `call` asks for, and talks while it waits. The time limit and signals hold from the first step on;
// when it returns a lock, signals are blocked.
Result<Holding, Error> obtain(const Call& call, Reporter& reporter, const Signals& signals);

} // namespace lockrun::cli
