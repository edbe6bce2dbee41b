#include "sys/clock.hpp"

#include <ctime>

namespace lockrun::sys {
namespace {

std::chrono::nanoseconds read_clock(clockid_t clock)
{
  timespec now{};
  ::clock_gettime(clock, &now); // fails only for a clock that the kernel does not know; these are older than Linux 3
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
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

std::chrono::nanoseconds wall_now()
{
  return read_clock(CLOCK_REALTIME);
}

} // namespace lockrun::sys
