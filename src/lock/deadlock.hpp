#pragma once

#include "lock/wait_graph.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <optional>
#include <vector>

namespace lockrun {

// Looks for circles of waiters: we wait for a lock, in whose holder's tree somebody waits for a lock … that our own
// tree holds. None of them would ever end. One that waits for any of several slots is in a circle when all of them are.
// Everything is read from the kernel (/proc/locks, fdinfo); waiters for ofd locks have no number there and are not
// seen, except those that are first in the queue for slots. Used by one thread, while others of this process wait.
class DeadlockSearch {
public:
  // While our tree holds no locks we are in no circle: somebody above us would have to take one while we wait.
  static constexpr std::chrono::nanoseconds k_longest_pause = std::chrono::seconds(60);

  // The parties of a circle, ourselves first, if it is we who are to give up: the one that started last does, of those
  // that run this program (others do not look). If the circle is still there two seconds after that one had its chance,
  // the next one gives up, and so on. A circle counts only if two looks in a row have seen it.
  std::optional<std::vector<Party>> look();

  // When to look again: at most 1 % of the time, less when many wait, and hardly ever while nobody in our tree holds
  // anything.
  std::chrono::nanoseconds pause() const noexcept { return m_pause; }

private:
  // How many in the circle that we see are to give up before us; none: there is no circle any more.
  static std::optional<int> younger_lookers(const std::vector<WaitingProcess>& circle);

  std::vector<WaitingProcess> m_seen;
  std::optional<std::chrono::nanoseconds> m_certain_since; // on the steady clock: m_seen was seen a second time
  std::chrono::nanoseconds m_pause = k_longest_pause;
};

} // namespace lockrun
