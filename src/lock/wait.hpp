#pragma once

#include "sys/lock.hpp"
#include "sys/signal.hpp"
#include "sys/thread.hpp"

#include <lockrun/lock.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
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

inline bool may_wait(const LockRequest& request)
{
  return request.patience != std::chrono::nanoseconds(0);
}

// What a look at the locks of our own tree says of a wait.
struct TreeLook {
  std::optional<Party> in_the_way{}; // an ancestor that holds what we wait for
  bool has_any = false;              // our tree holds any lock at all
  bool may_change = false;           // the answer may be another one later
};

class Watch;

// How one call to acquire() waits, through all the locks and tries that it takes.
struct Patience {
  const WaitPlan& plan;
  std::chrono::nanoseconds began; // on the steady clock
  Deadline deadline;
  bool tree_has_locks = true; // false: we and our ancestors are known to hold none
  // Looks for an ancestor that holds what we wait for, if that is not known yet. With WaitPlan::detect_deadlock.
  std::function<TreeLook()> look_at_tree{};
  Watch* watch = nullptr; // over the whole call; otherwise each wait has one of its own
};

// A system call that blocks in the kernel's own queue until it is answered or a signal handler interrupts it.
using BlockingCall = std::function<Result<sys::Attempt>()>;

// Watches over the steps of one call to acquire(), whichever system call they are in: at the deadline, or when a signal
// comes that ends the wait, it interrupts the thread that made it, again and again, and where the kernel does not let
// go of that thread (a file server that does not answer) it has the observer end the process. That takes a thread, the
// keeper, which does nothing else; what searches /proc or talks runs in another one. Used by the thread that made it.
class Watch {
public:
  // The time limit counts from now. `target` is the name for errors.
  Watch(const WaitPlan& plan, const LockRequest& request);
  // For one wait.
  Watch(const Patience& patience, const std::string& target);
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch();

  // Starts to watch, unless it does so already. Fails where there can be no thread.
  Result<void> begin();
  // The same, if there is a time limit: before the first step that may block.
  void begin_if_limited();
  // Has the signals end the call that the calling thread has blocked, or is about to block.
  void listen();
  // Nothing interrupts the calling thread any more, and no signal is listened to. A verdict stays. The keeper may sleep
  // on, with all signals blocked, until the watch is destroyed.
  void end();
  // The same for a watch that lives as long as the process: its keeper is left to the process's end.
  void end_for_good();

  // Why the call has to end, as soon as that is so: timed_out or interrupted.
  std::optional<Error> verdict() const;

  // As wait_blocking(), which see.
  Result<void, Error> wait(
    const BlockingCall& call, const Patience& patience, const std::string& target, Reason failure);

  // How the call waits.
  Patience patience();

private:
  // One blocking call, while it lasts.
  struct Wait {
    Watch* watch;
    const Patience* patience;
    const std::string* target;
    std::chrono::nanoseconds began;
    Deadline talk;                       // when the talker is started, which searches and says something
    std::optional<sys::Thread> talker{}; // both guarded by m_mutex
    std::atomic<pid_t> talker_number{0};
    std::atomic<bool> is_over{false};
    std::atomic<bool> has_finding{false}; // `finding` is set
    Error finding{};
  };

  static void* keeper_body(void* watch);
  static void* talker_body(void* argument);
  static void* ending_body(void* argument);

  // In the keeper.
  void keep();
  std::string target();
  bool has_finding();
  Deadline start_to_talk(std::chrono::nanoseconds now);
  void decide(Error verdict);
  void end_process();

  void join();
  void wake_keeper() const;
  void set_wait(Wait* wait);
  void finish_talk(Wait& wait);
  Result<void, Error> wait_alone(
    const BlockingCall& call, const Patience& patience, const std::string& target, Reason failure);

  const WaitPlan m_plan;
  const std::string m_target;
  const std::chrono::nanoseconds m_began;
  const Deadline m_deadline;
  pid_t m_watched = 0; // the thread
  std::optional<sys::Interruptible> m_interruptible;
  sys::SignalSet m_mask_before;
  std::optional<sys::Thread> m_keeper;
  std::atomic<pid_t> m_keeper_number{0};
  std::atomic<bool> m_listens{false};
  std::atomic<bool> m_is_over{false};
  std::atomic<bool> m_is_ending{false}; // m_verdict is set
  Error m_verdict{};
  std::mutex m_mutex;
  Wait* m_wait = nullptr; // guarded by m_mutex
};

// Tells the observer that we are about to queue, under the watch.
void announce_wait(const Patience& patience, const LockRequest& request);

// Lets `call` block in this thread under the watch. Nothing interrupts the call, which would cost the place in the
// queue, before the wait is to end. Succeeds when the call did, even if the time was up in the same moment; otherwise
// `failure` with the call's error, busy, timed_out, nested, deadlock or interrupted. After `interrupted` the call may
// have succeeded nevertheless. `target` is the name for the error. Where there can be no thread, nothing is searched or
// said while it waits.
Result<void, Error> wait_blocking(
  const BlockingCall& call, const Patience& patience, const std::string& target, Reason failure);

// For loops that the file system, or other processes, can keep going.
class Retries {
public:
  explicit Retries(const Patience& patience) noexcept : m_patience(patience) {}

  // Why there must not be another try: the time is up, or a signal came. Callers that do not wait try again for a
  // second.
  std::optional<Error> reason_to_stop(const std::string& target);

private:
  const Patience& m_patience;
  Deadline m_limit;
};

} // namespace lockrun
