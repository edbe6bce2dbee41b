#pragma once

#include <lockrun/error.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace lockrun::remote {

// How long a lock that a server grants is ours, and when the tree under it has to end for that.
struct LeaseTerms {
  std::chrono::nanoseconds deadline;   // on the elapsed clock: from then on it may be another process's
  std::chrono::nanoseconds margin;     // SIGKILL comes so long before it
  std::chrono::nanoseconds grace;      // and the polite signal so long before SIGKILL
  std::chrono::nanoseconds last_grace; // the same when another process may hold the lock already
};

// Those of a lease that lasts until `deadline`, of `ttl` in all. `kill_after` is what -k says, if the user asks for it,
// or its default.
LeaseTerms lease_terms(std::chrono::nanoseconds deadline, std::chrono::nanoseconds ttl,
  std::chrono::nanoseconds kill_after, bool is_asked_for);

// When the tree under such a lock has to end. Guard and twin share it in memory, so that each knows how things stand
// however long the other is stopped.
class LeaseClock {
public:
  // Shared with all processes that are forked later; it is never freed.
  static Result<LeaseClock> create(const LeaseTerms& terms);

  std::chrono::nanoseconds ask_at() const noexcept { return std::chrono::nanoseconds(m_shared->ask_at.load()); }
  std::chrono::nanoseconds kill_at() const noexcept { return std::chrono::nanoseconds(m_shared->kill_at.load()); }

  // The lock is ours for longer. Comes to nothing once the tree has been asked to end, or has to be killed: what is
  // lost stays lost, whatever a late answer says. Also when it would be ours for shorter.
  void renew(std::chrono::nanoseconds deadline, std::chrono::nanoseconds now) noexcept;

  // It is lost: the tree has to end now, in the grace at most, and never later than before. `sure_until`: when it was
  // still ours for certain; once that is over, only the last grace is left.
  void lose(std::chrono::nanoseconds sure_until, std::chrono::nanoseconds now) noexcept;

  // Whether it is for the caller, guard or twin, to ask the tree to end: true for the first one.
  bool claim_asking() noexcept { return !m_shared->is_asked.exchange(true); }
  bool is_asked() const noexcept { return m_shared->is_asked.load(); }

  // Whether the reason has been reported.
  bool is_reported() const noexcept { return m_shared->is_reported.load(); }

private:
  struct Shared {
    std::atomic<std::int64_t> ask_at;
    std::atomic<std::int64_t> kill_at;
    std::atomic<bool> is_asked;
    std::atomic<bool> is_reported;
  };
  static_assert(std::atomic<std::int64_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free,
    "two processes share them");

  LeaseClock(Shared* shared, const LeaseTerms& terms) noexcept : m_shared(shared), m_terms(terms) {}

  Shared* m_shared;
  LeaseTerms m_terms;
};

} // namespace lockrun::remote
