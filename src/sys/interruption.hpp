#pragma once

#include "sys/signal.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <memory>
#include <optional>

namespace lockrun::sys {

// Ends blocking calls of the calling thread without a second thread: from a moment of the steady clock on, and as soon
// as one of some signals has come, what blocks is interrupted again and again (EINTR). Those signals are blocked when
// it is made and when it has gone; in between their handlers run in this thread. One per thread at a time.
class [[nodiscard]] Interruption {
public:
  // Takes a timer of the process (timer_create(2)), or, where the user has no signals left to queue, the interval timer
  // (setitimer(2)), if that is not in use.
  static Result<Interruption> create(const SignalSet& signals, std::optional<std::chrono::nanoseconds> moment);
  Interruption(Interruption&&) noexcept;
  Interruption& operator=(Interruption&&) = delete;
  ~Interruption();

  // The number of the first of the signals that has come; 0: none yet.
  int signal() const noexcept;

private:
  struct State;
  static void note(int signal);
  explicit Interruption(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> m_state;
};

} // namespace lockrun::sys
