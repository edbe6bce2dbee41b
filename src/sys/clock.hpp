#pragma once

#include "sys/descriptor.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <ctime>
#include <utility>

namespace lockrun::sys {

// Clocks that cannot be set (clock_gettime(2)). The steady one stands still while the machine is suspended, the elapsed
// one goes on (CLOCK_BOOTTIME): time limits on waiting use the first, limits on holding the second.
std::chrono::nanoseconds steady_now();
std::chrono::nanoseconds elapsed_now();

// For how long the calling thread has used a processor (CLOCK_THREAD_CPUTIME_ID).
std::chrono::nanoseconds thread_time();

// The wall clock, since 1970 (CLOCK_REALTIME). For people only: it can jump.
std::chrono::nanoseconds wall_now();

// Sends `signal` to the process at a moment of the elapsed clock (timer_create(2), CLOCK_BOOTTIME). One that has passed
// already is sent at once. Lives until it is set again or destroyed.
class [[nodiscard]] Alarm {
public:
  static Result<Alarm> create(int signal);
  Alarm(Alarm&& other) noexcept : m_timer(other.m_timer), m_owns(std::exchange(other.m_owns, false)) {}
  Alarm& operator=(Alarm&&) = delete;
  ~Alarm();
  Result<void> set(std::chrono::nanoseconds moment);

private:
  explicit Alarm(timer_t timer) noexcept : m_timer(timer) {}
  timer_t m_timer;
  bool m_owns = true;
};

// A descriptor that is readable once a moment of the elapsed clock has come (timerfd_create(2)), to be waited for
// together with others.
class [[nodiscard]] Timer {
public:
  static Result<Timer> create();
  Result<void> set(std::chrono::nanoseconds moment) const;
  int descriptor() const noexcept { return m_timer.get(); }

private:
  explicit Timer(Descriptor timer) noexcept : m_timer(std::move(timer)) {}
  Descriptor m_timer;
};

} // namespace lockrun::sys
