#pragma once

#include "sys/proc.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include <sys/types.h>

namespace lockrun {

// What the trees of processes hold: a process and its ancestors, as far as these wait for it, because until it ends
// none of what they hold becomes free. Nothing is read twice: most ancestors are those of many waiters.
class ProcessTrees {
public:
  // Whether the condition is true of any member of the tree of `pid`, and of what that keeps.
  template <class Condition>
  bool any_in_tree_of(pid_t pid, Condition is_true_of)
  {
    for (Process* child = nullptr; pid > 0;) {
      Process& current = process(pid);
      // The parent has ended since, and another process has got its number.
      if (child != nullptr && (current.start() > child->start() || is_adopted(*child, current))) { return false; }
      if (is_true_of(current.pid, kept_by(current))) { return true; }
      child = &current;
      pid = current.status.parent;
    }
    return false;
  }

  // Whether the tree of `pid` keeps `wanted` from being granted.
  bool block(pid_t pid, const sys::LockLine& wanted);

  // Whether the tree of `pid` holds more than places among those who wait: to give up could be of use.
  bool have_something_to_give(pid_t pid);

  // When it started; 0 if it has ended.
  std::uint64_t start_of(pid_t pid) { return process(pid).start(); }

  // /proc/locks, which is long when many wait: it is read only when something is to be found there.
  const std::vector<sys::LockLine>& lines();

  // How many wait for anything, if that had to be read.
  std::size_t waiting() const;

private:
  // One process, and what it holds; all that inherited a descriptor share what it holds.
  struct Process {
    pid_t pid = 0;
    sys::ProcessStatus status{}; // empty: it has ended
    std::vector<sys::LockLine> held{};
    std::optional<bool> is_adopted{}; // by its parent, which does not wait for it; none: not asked yet
    // Of `held`, what is not freed by a lockrun that took it, whoever shares it; none: not asked yet.
    std::optional<std::vector<sys::LockLine>> kept{};
    std::uint64_t start() const noexcept { return status.start; }
  };

  Process& process(pid_t pid);
  std::vector<sys::LockLine> held_by(pid_t pid, bool may_have_taken);
  const std::vector<sys::LockLine>& kept_by(Process& process);
  static bool is_adopted(Process& child, const Process& parent);
  std::vector<sys::LockLine> taken_by(pid_t pid);

  std::optional<std::vector<sys::LockLine>> m_lines; // of /proc/locks
  std::map<pid_t, Process> m_processes;
};

} // namespace lockrun
