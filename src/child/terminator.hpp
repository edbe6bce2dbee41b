#pragma once

#include "child/control_group.hpp"
#include "child/tree.hpp"

#include <chrono>
#include <functional>
#include <vector>

namespace lockrun::child {

// Ends a whole tree: first politely, then not.
class Terminator {
public:
  // Is told, once, of members that could not be ended.
  using Complaint = std::function<void(const std::vector<sys::ProcessStatus>&)>;

  // Borrows `tree`.
  Terminator(const Tree& tree, Complaint complaint) : m_tree(tree), m_complaint(std::move(complaint)) {}

  // Kills all that is in it, too, whenever it kills. Borrowed; null: there is none.
  void use(const ControlGroup* group) { m_group = group; }

  // Everybody who has not been asked yet gets `signal`, and SIGCONT so that a stopped one can obey.
  // False if the tree could not be looked at.
  bool ask(int signal);

  // One sweep with SIGKILL over all that live now. Members that fork meanwhile are met the next time. False as above.
  bool kill();

  // A process that forks and ends, and so on, is somebody else before kill() comes to it. But each of them becomes our
  // own child, where it is seen at once; and no number is given to a stranger before we have reaped its owner. Whether
  // there was anybody.
  bool kill_children() const;

  // From now on members that SIGKILL does not end are counted as immortal after a while.
  void begin_killing();

private:
  bool was_asked(const sys::ProcessStatus& member) const;

  const Tree& m_tree;
  Complaint m_complaint;
  std::vector<sys::ProcessStatus> m_asked;
  std::chrono::nanoseconds m_kill_began{};
  bool m_told = false;
  const ControlGroup* m_group = nullptr;
};

} // namespace lockrun::child
