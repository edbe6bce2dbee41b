#pragma once

#include <chrono>
#include <random>

namespace lockrun::engines {

// Pauses that double, so that a service that is away is not asked all the time, each cut short at random, so that those
// who wait for it do not come back all at once.
class Backoff {
public:
  Backoff(std::chrono::milliseconds first, std::chrono::milliseconds longest) : m_first(first), m_longest(longest) {}

  // The next pause: between half and the whole of what it has grown to, at most `limit`.
  std::chrono::milliseconds next(std::chrono::milliseconds limit = std::chrono::milliseconds::max());
  void reset() noexcept { m_doublings = 0; }

private:
  std::chrono::milliseconds m_first;
  std::chrono::milliseconds m_longest;
  int m_doublings = 0;
  std::minstd_rand m_random{std::random_device()()};
};

} // namespace lockrun::engines
