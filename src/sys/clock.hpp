#pragma once

#include <chrono>

namespace lockrun::sys {

// Clocks that cannot be set (clock_gettime(2)). The steady one stands still while the machine is suspended, the elapsed
// one goes on (CLOCK_BOOTTIME): time limits on waiting use the first, limits on holding the second.
std::chrono::nanoseconds steady_now();
std::chrono::nanoseconds elapsed_now();

// The wall clock, since 1970 (CLOCK_REALTIME). For people only: it can jump.
std::chrono::nanoseconds wall_now();

} // namespace lockrun::sys
