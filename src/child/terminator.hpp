#pragma once

#include "child/control_group.hpp"
#include "child/tree.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>
#include <vector>

namespace lockrun::child {

// How long until a tree is swept again: members that forked between our look and our blow are met the next time.
class SweepPause {
public:
  // From now on it is short again.
  void reset() noexcept { m_next = k_first; }
  // Twice as long each time, up to a second.
  std::chrono::milliseconds next() noexcept { return std::exchange(m_next, std::min(m_next * 2, k_longest)); }

private:
  static constexpr std::chrono::milliseconds k_first{2};
  static constexpr std::chrono::milliseconds k_longest{1000};
  std::chrono::milliseconds m_next = k_first;
};

// Reaps all children that have ended. False: there is no child any more.
bool reap_all();

// Ends a whole tree: first politely, then not.
class Terminator {
public:
  // Called once, with the members that could not be ended.
  using Complaint = std::function<void(const std::vector<sys::ProcessStatus>&)>;

  // Borrows `tree`.
  Terminator(const Tree& tree, Complaint complaint) : m_tree(tree), m_complaint(std::move(complaint)) {}

  // Its processes are killed as well, whenever we kill. Borrowed; null: there is none.
  void use(const ControlGroup* group) { m_group = group; }

  // Every member that has not been asked yet gets `signal`, and SIGCONT so that a stopped one can obey.
  // False if the tree could not be looked at.
  bool ask(int signal);

  // One sweep with SIGKILL over all members that live now. Members that fork meanwhile are met the next time. False as
  // above.
  bool kill();

  // A process that forks and ends, and so on, is another one before kill() comes to it. But each of them becomes our
  // own child, where it is seen at once; and no number is given to a stranger before we have reaped its owner. So this
  // kills our own children, with `reap` in between, as long as there are new ones, but not forever.
  template <class Reap>
  void chase(Reap reap) const
  {
    constexpr int k_most = 1000;
    for (int i = 0; i < k_most && kill_children(); ++i) { reap(); }
  }

  // From now on members that SIGKILL does not end are counted as immortal after a while.
  void begin_killing();

private:
  bool kill_children() const; // whether there was one
  bool was_asked(const sys::ProcessStatus& member) const;

  const Tree& m_tree;
  Complaint m_complaint;
  std::vector<sys::ProcessStatus> m_asked;
  std::chrono::nanoseconds m_kill_began{};
  bool m_has_complained = false;
  const ControlGroup* m_group = nullptr;
};

} // namespace lockrun::child
