#pragma once

#include "child/supervise.hpp"
#include "child/tree.hpp"
#include "remote/lease_clock.hpp"
#include "remote/lease_connection.hpp"

namespace lockrun::remote {

// Runs commands under a lock that can be lost. It stays their supervisor in the eyes of the caller, gets the signals
// and the exit status; the command's parent is a twin of ours (twin.hpp). Whichever of the two is killed or stopped,
// the other one ends the tree: at once, or at the deadline.
class Guard {
public:
  // Before the engine is started, and the lock is asked for. Blocks the signals that are passed on.
  static Result<Guard> prepare();

  // A child that is none of the command's either: the engine.
  void leave_out(pid_t child) { m_tree.leave_out(child); }

  // As child::run(). Afterwards the tree is empty if it was to be ended. Besides the reasons of run(): lost, when too
  // little time was left to begin.
  Result<child::Ending, Error> run(const sys::Program& program, const child::Supervision& supervision,
    const LeaseTerms& terms, int polite_signal, LeaseConnection& lease);

private:
  explicit Guard(child::Tree tree, bool ignores_child) : m_tree(std::move(tree)), m_ignores_child(ignores_child) {}

  child::Tree m_tree;
  bool m_ignores_child; // what we inherited, and the command gets back
};

} // namespace lockrun::remote
