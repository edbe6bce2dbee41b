#pragma once

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <chrono>
#include <optional>
#include <vector>

#include <csignal>

namespace lockrun {

struct Hold; // one lock in the kernel and the descriptor that keeps it; src/lock/hold.hpp

// A lock that is held. It ends with release(), or when the last process that shares its descriptors has closed them;
// the destructor closes ours.
class [[nodiscard]] Lock {
public:
  explicit Lock(std::vector<Hold> holds) noexcept;
  Lock(Lock&&) noexcept;
  Lock& operator=(Lock&&) noexcept;
  ~Lock();

  // Frees it at once for everybody, also when other processes share it: the lock belongs to the open file description
  // (flock(2)). Does not block. The first failure is returned, the rest is freed all the same. Reasons: lock_failed;
  // not_removed when everything is free, but a file could not be removed (FileRules::unlink).
  Result<void, Error> release();

  // With LockRequest::slots the one that is ours; none under an ancestor's lock.
  std::optional<int> slot() const noexcept;

  const std::vector<Hold>& holds() const noexcept { return m_holds; }

private:
  std::vector<Hold> m_holds;
};

// Is told what happens while a call waits.
class WaitObserver {
public:
  virtual ~WaitObserver() = default;

  // What `request` asks for is busy and we are about to queue for it; again for each further lock or file. In the
  // calling thread.
  virtual void waiting(const LockRequest& request) { (void)request; }

  // Whether look() has anything to do.
  virtual bool talks() const { return true; }

  // Called beside the blocked call, in a thread of its own, after 200 ms of waiting for the first time: `waited` is the
  // time since acquire() began. Returns how long until it wants to be called again. Not called where there can be no
  // such thread.
  virtual std::chrono::nanoseconds look(std::chrono::nanoseconds waited) = 0;

  // The call is over for `reason`, but the kernel does not let the calling thread go (a file server that does not
  // answer), or look() does not return. In any thread, also beside look(); may end the process. When it returns, the
  // call goes on trying.
  virtual void stuck(const Error& reason) = 0;

  // stuck() has not returned within a quarter of a second, or there can be no thread for it. May end the process, and
  // must not block.
  virtual void end_now(const Error& reason) { (void)reason; }
};

// How to wait, apart from how long. Without an observer and signals nothing is done beside the wait.
struct WaitPlan {
  // Signals that end the call, from the moment on in which the caller has blocked them, in WaitObserver::waiting() at
  // the latest. Ignored ones are passed over.
  ::sigset_t ended_by{};
  WaitObserver* observer = nullptr;
  bool detect_deadlock = false; // give up with Reason::deadlock in a circle of waiters
  // Whether we probably are inside a command that holds a lock. With detect_deadlock an ancestor that holds the one
  // that we wait for is looked for after 200 ms of waiting; before it if this is so, if a descriptor of the file was
  // inherited, and with Nested::run or max_waiters.
  bool is_likely_nested = true;
};

// Gets the lock that `request` asks for: tries, and if it may wait, queues in the kernel. A time limit holds for every
// step, also for those that only a dead file server makes long, as far as the kernel lets go of the thread. When the
// path no longer names the file that was locked, starts again with the new one. Of several locks (request.also) it
// keeps all or none, takes them in an order that is the same for everybody, and names the one that it is about in an
// error. Reasons: busy, too_many_waiters, timed_out, nested, deadlock, interrupted, open_failed, missing, wrong_type,
// lock_failed, bad_descriptor, start_failed (neither a thread nor a timer to watch the clock).
Result<Lock, Error> acquire(const LockRequest& request, const WaitPlan& plan);

// Frees what holds request.fd, a descriptor of the caller's, for everybody who shares it. Reasons: bad_descriptor,
// lock_failed.
Result<void, Error> unlock(const LockRequest& request);

} // namespace lockrun
