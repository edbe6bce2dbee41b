#pragma once

#include "lock/deadlock.hpp"
#include "lock/look_turn.hpp"
#include "lock/wait.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <optional>

namespace lockrun {

// Finds out, while we wait, that the wait would never end because of what our own tree holds: the lock that we wait for
// (Patience::look_at_tree), or one that keeps others waiting in a circle with us. Used by one thread.
class TreeWatch {
public:
  // `began`: when the wait did, on the steady clock. With WaitPlan::detect_deadlock; otherwise it watches nothing.
  TreeWatch(const Patience& patience, std::chrono::nanoseconds began);

  // When to look first: after 200 ms, or shortly before the deadline. To look at what our ancestors hold costs as much
  // as all the rest of a wait, and most waits are short.
  static std::chrono::nanoseconds first_look(const Patience& patience, std::chrono::nanoseconds began);

  // When to call look(); none: never. First as first_look() says, then as DeadlockSearch does.
  Deadline next() const noexcept { return m_next; }

  // Looks, if it is our turn. `nested` or `deadlock`, still without a target, when the wait is to end.
  std::optional<Error> look();

private:
  std::optional<Error> search();

  const Patience& m_patience;
  DeadlockSearch m_search;
  std::optional<LookTurn> m_turn; // until the others may look
  bool m_has_looked;
  std::chrono::nanoseconds m_next_try;
  std::chrono::nanoseconds m_pause = std::chrono::seconds(1); // before we look at the tree again, if it may change
  Deadline m_next;
  Deadline m_next_tree;
  Deadline m_next_search;
};

} // namespace lockrun
