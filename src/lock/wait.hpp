#pragma once

#include "sys/lock.hpp"

#include <lockrun/lock.hpp>

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <string>

namespace lockrun {

// A moment on the steady clock (sys::steady_now()); none is never.
using Deadline = std::optional<std::chrono::nanoseconds>;

inline Deadline earlier(Deadline a, Deadline b)
{
  if (!a || !b) { return a ? a : b; }
  return std::min(*a, *b);
}

// What a look at the locks of our own tree says of a wait.
struct TreeLook {
  std::optional<Party> in_the_way{}; // an ancestor that holds what we wait for
  bool has_any = false;              // our tree holds any lock at all
  bool may_change = false;           // the answer may be another one later
};

// How one call to acquire() waits, through all the locks and tries that it takes.
struct Patience {
  const WaitPlan& plan;
  std::chrono::nanoseconds began; // on the steady clock
  Deadline deadline;
  bool tree_has_locks = true; // false: we and our ancestors are known to hold none
  // Looks for an ancestor that holds what we wait for, if that is not known yet. With WaitPlan::detect_deadlock.
  std::function<TreeLook()> look_at_tree{};
};

// A system call that blocks in the kernel's own queue until it is answered or a signal handler interrupts it.
using BlockingCall = std::function<Result<sys::Attempt>()>;

// Lets `call` block in this thread while a helper thread watches the clock, the signals that end the wait, and lets the
// observer look. Nothing interrupts the call, which would cost the place in the queue, before the wait is to end.
// Succeeds when the call did, also in the moment in which the time was up; otherwise `failure` with the call's error,
// busy, timed_out, nested, deadlock, interrupted, or start_failed when there can be no thread. After `interrupted` the
// call may have succeeded all the same. `target` is the name for the error.
Result<void, Error> wait_blocking(
  const BlockingCall& call, const Patience& patience, const std::string& target, Reason failure);

} // namespace lockrun
