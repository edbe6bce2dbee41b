#pragma once

#include "sys/clock.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <optional>
#include <span>
#include <utility>

#include <poll.h>

namespace lockrun::sys {

// Waits for descriptors until a moment of the elapsed clock (poll(2) with a timerfd_create(2) of CLOCK_BOOTTIME): the
// time-out of poll(2) itself stands still while the machine is suspended.
class Poller {
public:
  static Result<Poller> create();

  enum class Woken { by_descriptor, by_time };

  // Fills in `revents`. Descriptors that are ready count before the time does. At most sixteen of them; without a
  // moment it waits forever.
  Result<Woken> wait(std::span<::pollfd> descriptors, std::optional<std::chrono::nanoseconds> until) const;

private:
  explicit Poller(Timer timer) noexcept : m_timer(std::move(timer)) {}
  Timer m_timer;
};

} // namespace lockrun::sys
