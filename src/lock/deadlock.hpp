#pragma once

#include "sys/proc.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <optional>
#include <vector>

namespace lockrun {

// Looks for circles of waiters: we wait for a lock, in whose holder's tree somebody waits for a lock … that our own
// tree holds. None of them would ever end. Everything is read from the kernel (/proc/locks, fdinfo); waiters for ofd
// locks have no number there and are not seen. Used by one thread, while another one of this process waits.
class DeadlockSearch {
public:
  // The parties of a circle, ourselves first, if it is we who are to give up: the one that started last does, of those
  // that run this program (others do not look). A circle counts only if two looks in a row have seen it.
  std::optional<std::vector<Party>> look();

  // When to look again, after the wait's beginning or after the look before. The first time after 200 ms: a look by
  // each of a thousand waiters doubles the work of the machine. Then at most 1 % of the time, and hardly ever while
  // nobody in our tree holds anything.
  std::chrono::nanoseconds pause() const noexcept { return m_pause; }

private:
  struct Link {
    pid_t pid = 0;
    std::uint64_t start = 0;
    sys::LockLine wanted;
    friend bool operator==(const Link& a, const Link& b)
    {
      return a.pid == b.pid && a.start == b.start && a.wanted.inode == b.wanted.inode;
    }
  };
  class View;

  std::vector<Link> m_seen;
  std::chrono::nanoseconds m_pause = std::chrono::milliseconds(200);
};

} // namespace lockrun
