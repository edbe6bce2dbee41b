#pragma once

#include "child/supervise.hpp"
#include "child/tree.hpp"
#include "remote/deadline.hpp"

namespace lockrun::remote {

// Who keeps the lock for us while the command runs, and hears of it: an engine (remote/engine.hpp).
class Keeper {
public:
  struct News {
    enum class Kind { none, other, renewed, lost };
    Kind kind = Kind::none;
    std::chrono::nanoseconds deadline{}; // renewed, lost: until when it is certainly ours, or was
  };

  virtual ~Keeper() = default;
  // Readable when there is news; not open any more when none can come.
  virtual const sys::Descriptor& source() const = 0;
  // What has happened; none: nothing more for now. A loss has been told to people when it is returned.
  virtual News news() = 0;
  // The lock is lost and its tree cannot be ended: it must not be released.
  virtual void abandon() = 0;
  // In the twin, when the guard is gone and the tree has ended: the lock is given back.
  virtual void release_unheard() = 0;
};

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
    const LeaseTerms& terms, int polite_signal, Keeper& keeper);

private:
  explicit Guard(child::Tree tree, bool ignores_child) : m_tree(std::move(tree)), m_ignores_child(ignores_child) {}

  child::Tree m_tree;
  bool m_ignores_child; // what we inherited, and the command gets back
};

} // namespace lockrun::remote
