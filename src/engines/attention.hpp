#pragma once

#include "sys/poller.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <poll.h>

namespace lockrun::engines {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// A moment of the elapsed clock (CLOCK_BOOTTIME), which no administrator can set and no suspension stops.
using Instant = nanoseconds;

// What a backend waits with: for descriptors of its own and, unless it lets go, for lockrun.
class Attention {
public:
  // `lockrun` is the descriptor on which it talks.
  static Result<Attention> create(int lockrun = 0);
  int lockrun() const noexcept { return m_lockrun; }

  enum class Woken { by_descriptor, by_time, by_lockrun };
  Woken wait(std::span<::pollfd> descriptors, Instant until) const; // fills in `revents`
  Woken wait(int descriptor, short events, Instant until) const;
  Woken pause(Instant until) const { return wait(-1, 0, until); }

  // The session has something to do then, as if lockrun said something; none: no more.
  void interrupt_at(std::optional<Instant> moment) noexcept { m_interruption = moment; }

  // A call takes longer than it should, and goes on. The session says so.
  void complain(const std::string& text) const
  {
    if (m_complain) { m_complain(text); }
  }
  void on_complaint(std::function<void(const std::string& text)> listener) { m_complain = std::move(listener); }

  // From now on what lockrun says waits.
  void ignore_lockrun() noexcept { m_hears_lockrun = false; }

private:
  Attention(sys::Poller poller, int lockrun) noexcept : m_poller(std::move(poller)), m_lockrun(lockrun) {}
  sys::Poller m_poller;
  int m_lockrun;
  bool m_hears_lockrun = true;
  std::optional<Instant> m_interruption;
  std::function<void(const std::string& text)> m_complain;
};

} // namespace lockrun::engines
