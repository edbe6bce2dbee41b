#pragma once

#include "support/held_lock.hpp"
#include "support/process.hpp"

#include <lockrun/lock.hpp>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace lockrun::testing {

// One way to lock that has to keep the promises. A new backend adds a line to k_backends.
struct Backend {
  const char* name;
  Api api;
  LockKind queue; // in which of the kernel's queues its first waiter stands
  bool fair = false;
  int slots = 0;
};
inline constexpr Backend k_backends[] = {
  {"flock", Api::flock, LockKind::flock},
  {"ofd", Api::ofd, LockKind::ofd},
  {"both", Api::both, LockKind::flock},
  {"queue", Api::flock, LockKind::flock, true},
  {"queue_both", Api::both, LockKind::flock, true},
  {"slots", Api::flock, LockKind::ofd, false, 1},
};

// A request that waits for ever, also for an ancestor's lock: the tests fork.
LockRequest request_for(const Backend& backend, const std::filesystem::path& path, Mode mode = Mode::exclusive);
LockRequest without_waiting(LockRequest request);
LockRequest waiting_at_most(LockRequest request, std::chrono::nanoseconds patience);

// A process that calls acquire(), and holds what it got until it is let go.
class Contender {
public:
  // `before` runs in the process before it asks, `inside` once it has the lock.
  explicit Contender(const LockRequest& request, const std::function<void()>& before = {},
    const std::function<void()>& inside = {}, const WaitPlan& plan = {});

  pid_t pid() const noexcept { return m_process.pid(); }
  bool has_it() const { return m_got_it.await(); } // waits until it has; false: it never will
  void signal(int number) const { m_process.signal(number); }
  void kill() { (void)m_process.kill(); }

  // Lets it go and waits: none if it had the lock, otherwise the reason why not.
  std::optional<Reason> outcome();

private:
  Notice m_end;
  Notice m_got_it;
  Forked m_process;
};

// What a caller gets that does not wait: none for success.
std::optional<Reason> try_once(const LockRequest& request);

} // namespace lockrun::testing
