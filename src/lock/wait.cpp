#include "lock/wait.hpp"

#include "lock/tree_watch.hpp"
#include "sys/clock.hpp"
#include "sys/interruption.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace lockrun {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using sys::wake_signal;

// A single interruption can arrive just before the call blocks, and then it ends nothing: it is repeated.
constexpr milliseconds k_interruption_pause{1};
// How long the kernel may take to let go of a thread that was told to stop.
constexpr milliseconds k_patience_with_kernel{100};
// And how long the last words may take then.
constexpr milliseconds k_patience_with_words{250};
// How long a search may still take when the wait is over.
constexpr milliseconds k_patience_with_search{50};
constexpr std::chrono::seconds k_patience_without_waiting{1};
constexpr std::size_t k_stack_bytes = 64 * 1024;

sys::SignalSet ending_signals(const WaitPlan& plan)
{
  sys::SignalSet signals;
  signals.raw() = plan.ended_by;
  return signals;
}

// A signal that is ignored but blocked is queued nevertheless: the kernel leaves it to us to pass over it.
bool is_ignored(int signal)
{
  return sys::disposition(signal).value_or(sys::Disposition::standard) == sys::Disposition::ignored;
}

bool is_granted(const Result<sys::Attempt>& attempt)
{
  return attempt && *attempt == sys::Attempt::acquired;
}

// Blocks until it is answered; an interruption that was not meant for us queues again.
template <class MustStop>
Result<sys::Attempt> block(const BlockingCall& call, const MustStop& must_stop)
{
  for (;;) {
    auto attempt = call();
    if (!attempt && attempt.error().code == EINTR) { attempt = sys::Attempt::interrupted; }
    if (!attempt || *attempt != sys::Attempt::interrupted || must_stop()) { return attempt; }
  }
}

Result<void, Error> answer(const Result<sys::Attempt>& attempt, const std::string& target, Reason failure)
{
  if (!attempt) { return tl::unexpected(Error{failure, target, attempt.error()}); }
  if (*attempt == sys::Attempt::busy) { return tl::unexpected(Error{Reason::busy, target, {}}); }
  return {};
}

// Callers that mean to wait for their own ancestors do so in a circle, too.
WaitPlan plan_for(WaitPlan plan, const LockRequest& request)
{
  if (request.nested == Nested::wait) { plan.detect_deadlock = false; }
  return plan;
}

std::optional<Error> look_now(const Patience& patience, const std::string& target)
{
  if (!patience.plan.detect_deadlock || !patience.look_at_tree) { return std::nullopt; }
  auto tree = patience.look_at_tree();
  if (!tree.in_the_way) { return std::nullopt; }
  return Error{Reason::nested, target, {}, {std::move(*tree.in_the_way)}};
}

bool talks(const WaitPlan& plan)
{
  return plan.observer != nullptr && plan.observer->talks();
}

} // namespace

Watch::Watch(const WaitPlan& plan, const LockRequest& request)
  : m_plan(plan_for(plan, request)), m_target(request.path),
    m_began(request.patience != nanoseconds(0) ? sys::steady_now() : nanoseconds(0)), // most that do not wait need none
    m_deadline(request.patience ? Deadline(m_began + *request.patience) : Deadline())
{}

Watch::Watch(const Patience& patience, const std::string& target)
  : m_plan(patience.plan), m_target(target), m_began(patience.began), m_deadline(patience.deadline)
{}

Result<void> Watch::begin()
{
  if (m_keeper) { return {}; }
  auto interruptible = sys::Interruptible::create();
  if (!interruptible) { return tl::unexpected(interruptible.error()); }
  m_watched = sys::thread_id();
  m_is_over.store(false);
  // The keeper is born with our mask, and must take no signal from this thread: what ends the wait does here what it
  // does by default until it is blocked here, too, and the keeper listens.
  m_mask_before = sys::block_signals(sys::SignalSet::all());
  const auto keeper = sys::start_thread(keeper_body, this, k_stack_bytes);
  sys::SignalSet ours = m_mask_before;
  if (keeper) { ours.remove(wake_signal()); }
  (void)sys::set_signal_mask(ours);
  if (!keeper) { return tl::unexpected(keeper.error()); }
  m_interruptible = std::move(*interruptible);
  m_keeper = *keeper;
  return {};
}

void Watch::begin_if_limited()
{
  if (m_deadline && *m_deadline > m_began) { (void)begin(); } // where there can be no thread, the wait has other means
}

Watch::~Watch()
{
  end();
  join();
}

void Watch::end()
{
  if (!m_keeper || m_is_over.exchange(true)) { return; }
  // A keeper that has had nothing to do sleeps on: to wait until it has run would cost most of what the whole call does
  // on a busy machine. One that has a verdict may be ending the process just now.
  if (m_listens.load() || m_is_ending.load()) { join(); }
  m_interruptible.reset(); // drops an interruption that came too late
  if (m_mask_before.contains(wake_signal())) { (void)sys::block_signals({wake_signal()}); }
}

void Watch::end_for_good()
{
  end();
  if (m_keeper) { sys::detach(*std::exchange(m_keeper, std::nullopt)); }
}

void Watch::join()
{
  if (!m_keeper) { return; }
  wake_keeper();
  (void)sys::join(*m_keeper);
  m_keeper.reset();
  m_keeper_number.store(0);
}

void Watch::listen()
{
  if (!m_listens.exchange(true)) { wake_keeper(); }
}

std::optional<Error> Watch::verdict() const
{
  return m_is_ending.load() ? std::optional(m_verdict) : std::nullopt;
}

Patience Watch::patience()
{
  Patience patience{m_plan, m_began, m_deadline};
  patience.watch = this;
  return patience;
}

void* Watch::keeper_body(void* watch)
{
  static_cast<Watch*>(watch)->keep();
  return nullptr;
}

void Watch::keep()
{
  m_keeper_number.store(sys::thread_id());
  const sys::SignalSet wake{wake_signal()};
  sys::SignalSet wake_and_ending = ending_signals(m_plan);
  wake_and_ending.add(wake_signal());
  Deadline last_words;
  while (!m_is_over.load()) {
    const nanoseconds now = sys::steady_now();
    if (m_deadline && now >= *m_deadline && !m_is_ending.load()) { decide({Reason::timed_out, target()}); }
    const bool is_ending = m_is_ending.load();
    if (is_ending && !last_words) { last_words = now + k_patience_with_kernel; }
    if (is_ending && now >= *last_words) {
      last_words = nanoseconds::max();
      end_process();
      continue;
    }
    Deadline wake_up;
    if (is_ending || has_finding()) {
      (void)sys::kill_thread(m_watched, wake_signal()); // that thread lives until it has joined us
      wake_up = now + k_interruption_pause;
    } else {
      wake_up = earlier(m_deadline, start_to_talk(now));
    }
    const auto patience = wake_up ? std::optional(std::max(*wake_up - now, nanoseconds(0))) : std::nullopt;
    const auto received = sys::wait_signal(m_listens.load() && !is_ending ? wake_and_ending : wake, patience);
    if (!received || !*received || (*received)->number == wake_signal()) { continue; }
    const int number = (*received)->number;
    if (!is_ignored(number)) { decide({Reason::interrupted, target(), {nullptr, number}}); }
  }
}

void Watch::decide(Error verdict)
{
  m_verdict = std::move(verdict);
  m_is_ending.store(true);
}

std::string Watch::target()
{
  const std::lock_guard guard(m_mutex);
  return m_wait != nullptr ? *m_wait->target : m_target;
}

bool Watch::has_finding()
{
  const std::lock_guard guard(m_mutex);
  return m_wait != nullptr && m_wait->has_finding.load();
}

Deadline Watch::start_to_talk(nanoseconds now)
{
  const std::lock_guard guard(m_mutex);
  if (m_wait == nullptr || m_wait->talker || !m_wait->talk || now < *m_wait->talk) {
    return m_wait != nullptr && !m_wait->talker ? m_wait->talk : std::nullopt;
  }
  const auto talker = sys::start_thread(talker_body, m_wait, k_stack_bytes);
  if (talker) { m_wait->talker = *talker; }
  m_wait->talk.reset(); // without a thread nothing is searched or said
  return std::nullopt;
}

void* Watch::talker_body(void* argument)
{
  auto& wait = *static_cast<Wait*>(argument);
  wait.talker_number.store(sys::thread_id());
  const WaitPlan& plan = wait.patience->plan;
  const sys::SignalSet wake{wake_signal()};
  Deadline next_look = talks(plan) ? Deadline(wait.began) : std::nullopt;
  TreeWatch tree(*wait.patience, wait.began);
  while (!wait.is_over.load()) {
    const nanoseconds now = sys::steady_now();
    if (tree.next() && now >= *tree.next()) {
      if (auto finding = tree.look()) {
        finding->target = *wait.target;
        wait.finding = std::move(*finding);
        wait.has_finding.store(true);
        wait.watch->wake_keeper();
        break;
      }
    } else if (next_look && now >= *next_look) {
      next_look = now + std::max<nanoseconds>(plan.observer->look(now - wait.patience->began), k_interruption_pause);
    } else {
      const Deadline next = earlier(next_look, tree.next());
      (void)sys::wait_signal(wake, next ? std::optional<nanoseconds>(*next - now) : std::nullopt);
    }
  }
  return nullptr;
}

void* Watch::ending_body(void* argument)
{
  auto& watch = *static_cast<Watch*>(argument);
  watch.m_plan.observer->stuck(watch.m_verdict);
  return nullptr;
}

// The words may block, too.
void Watch::end_process()
{
  if (m_plan.observer == nullptr) { return; }
  const auto words = sys::start_thread(ending_body, this, k_stack_bytes);
  if (words && sys::join_within(*words, k_patience_with_words) == sys::Joined::yes) { return; }
  m_plan.observer->end_now(m_verdict);
  if (words) { (void)sys::join(*words); }
}

// One that has not told its number yet looks around before it sleeps.
void Watch::wake_keeper() const
{
  if (const pid_t keeper = m_keeper_number.load(); keeper != 0) { (void)sys::kill_thread(keeper, wake_signal()); }
}

void Watch::set_wait(Wait* wait)
{
  const std::lock_guard guard(m_mutex);
  m_wait = wait;
}

void Watch::finish_talk(Wait& wait)
{
  if (!wait.talker) { return; }
  wait.is_over.store(true);
  if (const pid_t talker = wait.talker_number.load(); talker != 0) { (void)sys::kill_thread(talker, wake_signal()); }
  // A search must not keep us beyond the time limit.
  if (m_is_ending.load() && m_plan.observer != nullptr) {
    if (sys::join_within(*wait.talker, k_patience_with_search) == sys::Joined::yes) { return; }
    m_plan.observer->stuck(m_verdict);
  }
  (void)sys::join(*wait.talker);
}

Result<void, Error> Watch::wait(
  const BlockingCall& call, const Patience& patience, const std::string& target, Reason failure)
{
  Wait wait{this, &patience, &target, sys::steady_now(), {}};
  const bool searches = patience.plan.detect_deadlock;
  if (searches || talks(patience.plan)) { wait.talk = TreeWatch::first_look(patience, wait.began); }
  if (wait.talk && *wait.talk <= wait.began) { // no talker would be in time
    wait.talk.reset();
    if (auto nested = look_now(patience, target)) { return tl::unexpected(std::move(*nested)); }
  }
  const bool is_watched = m_keeper.has_value();
  m_listens.store(true);
  set_wait(&wait);
  if (const auto begun = begin(); !begun) {
    set_wait(nullptr);
    return wait_alone(call, patience, target, failure);
  }
  if (is_watched) { wake_keeper(); }
  const auto attempt = block(call, [&] { return m_is_ending.load() || wait.has_finding.load(); });
  set_wait(nullptr);
  finish_talk(wait);
  // Granted in the moment in which the time was up, or the wait seemed never to end, is granted; a signal is obeyed
  // even so.
  const bool granted = is_granted(attempt);
  if (const auto reason = verdict(); reason && !(granted && reason->reason != Reason::interrupted)) {
    return tl::unexpected(Error{reason->reason, target, reason->cause});
  }
  if (!granted && wait.has_finding.load()) { return tl::unexpected(std::move(wait.finding)); }
  return answer(attempt, target, failure);
}

// Without another thread: a timer, or the handler of a signal, interrupts the call.
Result<void, Error> Watch::wait_alone(
  const BlockingCall& call, const Patience& patience, const std::string& target, Reason failure)
{
  if (auto nested = look_now(patience, target)) { return tl::unexpected(std::move(*nested)); }
  sys::SignalSet listened = ending_signals(m_plan);
  for (int signal = 1; signal < NSIG; ++signal) {
    if (listened.contains(signal) && is_ignored(signal)) { listened.remove(signal); }
  }
  auto interruption = sys::Interruption::create(listened, m_deadline);
  if (!interruption) { return tl::unexpected(Error{Reason::start_failed, target, interruption.error()}); }
  const auto is_late = [&] { return m_deadline && sys::steady_now() >= *m_deadline; };
  const auto attempt = block(call, [&] { return interruption->signal() != 0 || is_late(); });
  if (const int signal = interruption->signal(); signal != 0) {
    decide({Reason::interrupted, target, {nullptr, signal}});
    return tl::unexpected(m_verdict);
  }
  const bool is_interrupted = attempt && *attempt == sys::Attempt::interrupted;
  if (is_interrupted) { return tl::unexpected(Error{Reason::timed_out, target, {}}); }
  return answer(attempt, target, failure);
}

void announce_wait(const Patience& patience, const LockRequest& request)
{
  if (patience.plan.observer == nullptr) { return; }
  if (patience.watch != nullptr) {
    (void)patience.watch->begin();
    patience.watch->listen();
  }
  patience.plan.observer->waiting(request);
}

Result<void, Error> wait_blocking(
  const BlockingCall& call, const Patience& patience, const std::string& target, Reason failure)
{
  const bool is_watched = patience.deadline || patience.plan.observer != nullptr || patience.plan.detect_deadlock ||
                          !ending_signals(patience.plan).is_empty();
  if (!is_watched) {
    return answer(block(call, [] { return false; }), target, failure);
  }
  if (patience.watch != nullptr) { return patience.watch->wait(call, patience, target, failure); }
  Watch watch(patience, target);
  return watch.wait(call, patience, target, failure);
}

std::optional<Error> Retries::reason_to_stop(const std::string& target)
{
  if (m_patience.watch != nullptr) {
    if (const auto verdict = m_patience.watch->verdict()) { return Error{verdict->reason, target, verdict->cause}; }
  }
  if (!m_patience.deadline) { return std::nullopt; }
  const nanoseconds now = sys::steady_now();
  const bool may_wait = *m_patience.deadline > m_patience.began;
  if (!m_limit) { m_limit = may_wait ? *m_patience.deadline : now + k_patience_without_waiting; }
  if (now < *m_limit) { return std::nullopt; }
  return Error{may_wait ? Reason::timed_out : Reason::busy, target, {}};
}

} // namespace lockrun
