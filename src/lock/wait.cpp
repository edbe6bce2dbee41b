#include "lock/wait.hpp"

#include "lock/tree_watch.hpp"
#include "sys/clock.hpp"
#include "sys/signal.hpp"
#include "sys/thread.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

namespace lockrun {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using sys::wake_signal;

// How long the kernel may take to let go of a thread that was told to stop waiting.
constexpr milliseconds k_patience_with_kernel{100};
constexpr std::size_t k_stack_bytes = 64 * 1024;

// What the two threads know of each other.
struct WaitState {
  const Patience* patience;
  const std::string* target;
  pid_t waiting_thread;
  std::atomic<pid_t> helper_thread{0};
  std::atomic<bool> call_returned{false};
  std::atomic<bool> ending{false}; // `verdict` is set
  Error verdict{};
};

// A single signal can arrive just before the call blocks, and then nothing would end it: so it is repeated until the
// other thread says that it is out.
void interrupt(WaitState& wait, Error verdict)
{
  wait.verdict = std::move(verdict);
  wait.ending.store(true);
  const sys::SignalSet wake{wake_signal()};
  const nanoseconds limit = sys::steady_now() + k_patience_with_kernel;
  WaitObserver* const observer = wait.patience->plan.observer;
  bool told = false;
  while (!wait.call_returned.load()) {
    (void)sys::kill_thread(wait.waiting_thread, wake_signal()); // that thread lives until it has joined us
    (void)sys::wait_signal(wake, milliseconds(1));
    // Whoever is told to look at its ancestors may yet go on.
    const bool is_final = wait.verdict.reason != Reason::nested;
    if (is_final && !told && observer != nullptr && sys::steady_now() >= limit) {
      told = true;
      observer->stuck(wait.verdict);
    }
  }
}

void watch(WaitState& wait)
{
  const WaitPlan& plan = wait.patience->plan;
  sys::SignalSet listened;
  listened.raw() = plan.ended_by;
  listened.add(wake_signal());
  const Deadline deadline = wait.patience->deadline;
  const nanoseconds began = sys::steady_now();
  Deadline next_look = plan.observer != nullptr ? Deadline(began) : std::nullopt;
  TreeWatch tree(*wait.patience, began);
  while (!wait.call_returned.load()) {
    const nanoseconds now = sys::steady_now();
    if (tree.next() && now >= *tree.next()) {
      if (auto finding = tree.look()) {
        finding->target = *wait.target;
        return interrupt(wait, std::move(*finding));
      }
      continue;
    }
    if (deadline && now >= *deadline) { return interrupt(wait, {Reason::timed_out, *wait.target}); }
    if (next_look && now >= *next_look) {
      next_look = now + std::max<nanoseconds>(plan.observer->look(now - wait.patience->began), milliseconds(1));
      continue;
    }
    const Deadline wake_up = earlier(deadline, earlier(next_look, tree.next()));
    const auto received =
      sys::wait_signal(listened, wake_up ? std::optional<nanoseconds>(*wake_up - now) : std::nullopt);
    if (!received || !*received || (*received)->number == wake_signal()) { continue; }
    // A signal that is ignored but blocked is queued all the same: the kernel leaves it to us to pass over it.
    const int number = (*received)->number;
    if (sys::disposition(number).value_or(sys::Disposition::standard) == sys::Disposition::ignored) { continue; }
    return interrupt(wait, {Reason::interrupted, *wait.target, {nullptr, number}});
  }
}

void* helper_body(void* argument)
{
  auto& wait = *static_cast<WaitState*>(argument);
  wait.helper_thread.store(sys::thread_id());
  watch(wait);
  return nullptr;
}

// Blocks until it is answered; an interruption that nobody asked for (there is none that we know of) queues again.
Result<sys::Attempt> block(const BlockingCall& call, const std::atomic<bool>& ending)
{
  for (;;) {
    auto attempt = call();
    if (!attempt && attempt.error().code == EINTR) { attempt = sys::Attempt::interrupted; }
    if (!attempt || *attempt != sys::Attempt::interrupted || ending.load()) { return attempt; }
  }
}

Result<void, Error> answer(const Result<sys::Attempt>& attempt, const std::string& target, Reason failure)
{
  if (!attempt) { return tl::unexpected(Error{failure, target, attempt.error()}); }
  if (*attempt == sys::Attempt::busy) { return tl::unexpected(Error{Reason::busy, target, {}}); }
  return {};
}

bool needs_no_helper(const Patience& patience)
{
  sys::SignalSet ended_by;
  ended_by.raw() = patience.plan.ended_by;
  return !patience.deadline && patience.plan.observer == nullptr && !patience.plan.detect_deadlock &&
         ended_by.is_empty();
}

} // namespace

Result<void, Error> wait_blocking(
  const BlockingCall& call, const Patience& patience, const std::string& target, Reason failure)
{
  if (needs_no_helper(patience)) { return answer(block(call, std::atomic<bool>(false)), target, failure); }
  WaitState wait{&patience, &target, sys::thread_id()};
  const auto no_start = [&](SysError cause) { return tl::unexpected(Error{Reason::start_failed, target, cause}); };
  const sys::SignalSet wake{wake_signal()};
  // The helper is born with our mask: it must have the wake-up blocked, and the signals that end the wait are the
  // caller's, blocked already.
  const sys::SignalSet before = sys::block_signals(wake);
  const auto action = sys::set_interrupting(wake_signal());
  if (!action) { return no_start(action.error()); }
  const auto helper = sys::start_thread(helper_body, &wait, k_stack_bytes);
  if (!helper) {
    sys::restore_action(wake_signal(), *action);
    (void)sys::set_signal_mask(before);
    return no_start(helper.error());
  }
  (void)sys::unblock_signals(wake);
  const auto attempt = block(call, wait.ending);
  (void)sys::block_signals(wake);
  wait.call_returned.store(true);
  // The helper may sleep: wake it. If it has not told its number yet, it looks at call_returned before it sleeps.
  if (const pid_t helper_thread = wait.helper_thread.load(); helper_thread != 0) {
    (void)sys::kill_thread(helper_thread, wake_signal());
  }
  (void)sys::join(*helper);
  sys::restore_action(wake_signal(), *action); // drops a wake-up that came too late
  (void)sys::set_signal_mask(before);
  // Granted in the moment in which the time was up, or the wait seemed never to end, is granted; a signal is obeyed
  // even so.
  const bool granted = attempt && *attempt == sys::Attempt::acquired;
  if (wait.ending.load() && !(granted && wait.verdict.reason != Reason::interrupted)) {
    return tl::unexpected(wait.verdict);
  }
  return answer(attempt, target, failure);
}

} // namespace lockrun
