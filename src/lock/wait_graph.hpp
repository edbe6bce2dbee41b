#pragma once

#include "lock/lock_line.hpp"
#include "lock/process_trees.hpp"
#include "sys/proc.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace lockrun {

// One process that waits.
struct WaitingProcess {
  pid_t pid = 0;
  std::uint64_t start = 0;
  std::vector<sys::LockLine> wanted{}; // any one of these would do: the slots of --slots
  friend bool operator==(const WaitingProcess& a, const WaitingProcess& b)
  {
    return a.pid == b.pid && a.start == b.start &&
           std::equal(a.wanted.begin(), a.wanted.end(), b.wanted.begin(), b.wanted.end(), is_same_lock);
  }
};

// Who waits for whom, at one moment: a process that waits, for those in whose trees the lock that it wants is held.
class WaitGraph {
public:
  explicit WaitGraph(ProcessTrees& trees) noexcept : m_trees(trees) {}

  // Whether anything waits for what our tree holds. If not, we are in no circle, and what all the others hold, which is
  // many system calls for each of them, need not be known. To be called first.
  bool keeps_others_waiting();

  // The circle from us back to us, or nothing. A process that waits in it with nothing but a place in a queue is left
  // out: it keeps the next one waiting, but only as long as others keep it.
  std::vector<WaitingProcess> circle();

  // How many look for circles as often as we do, because their trees hold something too.
  std::size_t lookers();

  // The name that it has the file open under for which it waits; or our tree, where we may not look into that.
  std::string path_of(const WaitingProcess& waiter);

private:
  // What the tree of a waiter holds.
  struct TreeLock {
    sys::LockLine line;
    std::size_t waiter;    // in m_waiters
    std::int64_t last = 0; // the highest byte of this one and all before it, of the same file
  };

  // For how long a process waits: until others are done, until those on the path are, or until we are.
  enum class Until { others, circle, us };

  // One waiter on the way that the search has gone, and where it goes on.
  struct Step {
    std::size_t waiter;                  // in m_waiters
    std::size_t depth;                   // its index in m_path
    std::size_t wanted = 0;              // which of what it wants is followed
    bool is_asked = false;               // `blockers` are those of that one
    std::vector<std::size_t> blockers{}; // still to be visited
    Until freed = Until::others;         // when that one is free, as far as is known
    Until served = Until::others;        // when the waiter has any of those before, as far as is known
  };

  void index_what_trees_hold();
  std::vector<std::size_t> blockers_of(const sys::LockLine& wanted) const;
  bool leads_back_to_us(std::size_t ours);
  static std::optional<std::size_t> next_blocker(
    Step& step, const std::vector<bool>& is_visited, const std::vector<bool>& is_on_path);
  std::optional<Until> answer_of(Step& step);

  ProcessTrees& m_trees;
  std::vector<WaitingProcess> m_waiters;
  std::vector<WaitingProcess> m_path;
  std::vector<std::size_t> m_path_waiters; // the same, in m_waiters
  std::map<FileKey, std::vector<TreeLock>> m_held_by_trees;
};

} // namespace lockrun
