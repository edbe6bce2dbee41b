#include "sys/clock.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>

#include <sys/timerfd.h>

namespace lockrun::sys {
namespace {

std::chrono::nanoseconds read_clock(clockid_t clock)
{
  timespec now{};
  ::clock_gettime(clock, &now); // fails only for a clock that the kernel does not know; these are older than Linux 3
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

// One in the past goes off at once.
itimerspec at(std::chrono::nanoseconds moment)
{
  const auto later = std::max(moment, std::chrono::nanoseconds(1)); // zero would disarm it
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(later);
  return {{}, {whole.count(), (later - whole).count()}};
}

} // namespace

std::chrono::nanoseconds steady_now()
{
  return read_clock(CLOCK_MONOTONIC);
}

std::chrono::nanoseconds elapsed_now()
{
  return read_clock(CLOCK_BOOTTIME);
}

std::chrono::nanoseconds thread_time()
{
  return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

std::chrono::nanoseconds wall_now()
{
  return read_clock(CLOCK_REALTIME);
}

Result<Alarm> Alarm::create(int signal)
{
  ::sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = signal;
  timer_t timer{};
  if (::timer_create(CLOCK_BOOTTIME, &event, &timer) != 0) { return tl::unexpected(SysError{"timer_create", errno}); }
  return Alarm(timer);
}

Alarm::~Alarm()
{
  if (m_owns) { ::timer_delete(m_timer); }
}

Result<void> Alarm::set(std::chrono::nanoseconds moment)
{
  const itimerspec when = at(moment);
  if (::timer_settime(m_timer, TIMER_ABSTIME, &when, nullptr) != 0) {
    return tl::unexpected(SysError{"timer_settime", errno});
  }
  return {};
}

Result<Timer> Timer::create()
{
  Descriptor timer(::timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.is_open()) { return tl::unexpected(SysError{"timerfd_create", errno}); }
  return Timer(std::move(timer));
}

Result<void> Timer::set(std::chrono::nanoseconds moment) const
{
  const itimerspec when = at(moment);
  if (::timerfd_settime(m_timer.get(), TFD_TIMER_ABSTIME, &when, nullptr) != 0) {
    return tl::unexpected(SysError{"timerfd_settime", errno});
  }
  return {};
}

} // namespace lockrun::sys
