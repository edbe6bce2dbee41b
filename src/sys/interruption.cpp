#include "sys/interruption.hpp"

#include "sys/thread.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include <csignal>
#include <ctime>
#include <sys/time.h>

#ifndef sigev_notify_thread_id // older C libraries do not name it
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace lockrun::sys {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

// One interruption can come just before the call blocks.
constexpr milliseconds k_pause{2};

timespec as_timespec(nanoseconds moment)
{
  const auto whole = std::chrono::duration_cast<seconds>(moment);
  return {whole.count(), (moment - whole).count()};
}

timeval as_timeval(nanoseconds span)
{
  const auto whole = std::chrono::duration_cast<seconds>(span);
  return {whole.count(), std::chrono::ceil<microseconds>(span - whole).count()};
}

} // namespace

struct Interruption::State {
  struct Saved {
    int number;
    struct ::sigaction action;
  };
  std::optional<timer_t> timer; // otherwise the interval timer
  volatile std::sig_atomic_t came = 0;
  std::vector<Saved> actions;
  SignalSet mask;

  // From `moment` on, 0: now. A handler may call it.
  int interrupt_from(nanoseconds moment) const
  {
    if (timer) {
      const itimerspec when{as_timespec(k_pause), as_timespec(std::max(moment, nanoseconds(1)))};
      return ::timer_settime(*timer, TIMER_ABSTIME, &when, nullptr);
    }
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const nanoseconds left = moment - seconds(now.tv_sec) - nanoseconds(now.tv_nsec);
    const itimerval when{as_timeval(k_pause), as_timeval(std::max<nanoseconds>(left, microseconds(1)))};
    return ::setitimer(ITIMER_REAL, &when, nullptr);
  }
};

namespace {

// What a handler in this thread knows of.
thread_local void* t_state = nullptr;

} // namespace

void Interruption::note(int signal)
{
  const int saved = errno;
  if (auto* const state = static_cast<State*>(t_state); state != nullptr) {
    if (state->came == 0) { state->came = signal; }
    (void)state->interrupt_from(nanoseconds(0));
  }
  errno = saved;
}

Interruption::Interruption(std::unique_ptr<State> state) noexcept : m_state(std::move(state)) {}
Interruption::Interruption(Interruption&&) noexcept = default;

Result<Interruption> Interruption::create(const SignalSet& signals, std::optional<nanoseconds> moment)
{
  Interruption made(std::make_unique<State>());
  State& state = *made.m_state;
  ::sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = wake_signal();
  event.sigev_notify_thread_id = thread_id();
  timer_t timer{};
  int alarm = wake_signal();
  SignalSet opened = signals;
  state.mask = block_signals({});
  if (::timer_create(CLOCK_MONOTONIC, &event, &timer) == 0) {
    state.timer = timer;
  } else {
    const int code = errno;
    ::itimerval used{};
    const bool is_known = ::getitimer(ITIMER_REAL, &used) == 0;
    if (!is_known || used.it_value.tv_sec != 0 || used.it_value.tv_usec != 0) {
      made.m_state.reset();
      return tl::unexpected(SysError{"timer_create", code});
    }
    alarm = SIGALRM;
  }
  opened.add(alarm);
  t_state = &state;
  for (int number = 1; number < NSIG; ++number) {
    if (!opened.contains(number)) { continue; }
    struct ::sigaction action {};
    action.sa_handler = number == alarm ? [](int) {} : &Interruption::note; // no SA_RESTART
    State::Saved saved{number, {}};
    if (::sigaction(number, &action, &saved.action) != 0) { return tl::unexpected(SysError{"sigaction", errno}); }
    state.actions.push_back(saved);
  }
  if (moment && state.interrupt_from(*moment) != 0) { return tl::unexpected(SysError{"timer_settime", errno}); }
  (void)unblock_signals(opened);
  return made;
}

Interruption::~Interruption()
{
  if (!m_state) { return; }
  (void)set_signal_mask(m_state->mask);
  if (m_state->timer) {
    ::timer_delete(*m_state->timer);
  } else {
    const ::itimerval none{};
    (void)::setitimer(ITIMER_REAL, &none, nullptr);
  }
  t_state = nullptr;
  for (const auto& [number, action] : m_state->actions) {
    if (number == wake_signal() || number == SIGALRM) {
      restore_action(number, action); // and drops one that came too late
    } else {
      (void)::sigaction(number, &action, nullptr);
    }
  }
}

int Interruption::signal() const noexcept
{
  return m_state->came;
}

} // namespace lockrun::sys
