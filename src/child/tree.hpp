#pragma once

#include "sys/proc.hpp"

#include <lockrun/error.hpp>

#include <vector>

namespace lockrun::child {

class Witness;

// The processes that descend from this one, a subreaper: what a daemon started, however often it forked and whatever
// session it made, is among them.
class Tree {
public:
  // Makes us a subreaper, before the first process of the tree is started. There must be no strangers
  // (keep_strangers_apart()). Fails where a tree cannot be seen (sys::check_proc()).
  static Result<Tree> before_start();

  // One more child that is no member, with everything that it starts; without effect if it has ended already.
  void leave_out(pid_t child);

  // A child that stands between us and the tree, and is no member itself.
  void reach_through(pid_t child) { m_intermediate = child; }

  // Its processes are our children, and no members. Borrowed.
  void overlook(const Witness& witness) { m_witness = &witness; }

  // Those that live now, parents before children; zombies are left out. They can fork while we look, so an empty answer
  // proves nothing unless the kernel says that there is no child (ECHILD).
  Result<std::vector<sys::ProcessStatus>> members() const;

  // Those that are our own children, zombies included. Read in no time, where members() reads a file for each process
  // of the machine; empty where the kernel does not say.
  std::vector<pid_t> children() const;

  bool has_strangers() const noexcept { return !m_strangers.empty(); }

private:
  bool is_stranger(const sys::ProcessStatus& process) const;
  bool is_helper(pid_t pid) const;
  // Those among `all` that descend from us and are no strangers, parents first.
  std::vector<sys::ProcessStatus> descendants(const std::vector<sys::ProcessStatus>& all) const;

  std::vector<sys::ProcessStatus> m_strangers;
  pid_t m_intermediate = 0;
  const Witness* m_witness = nullptr;
};

enum class Delivery { sent, gone, refused };

// Sends `signal` to just this process: a number that has been given to another process meanwhile is left alone.
Delivery send(const sys::ProcessStatus& process, int signal);

} // namespace lockrun::child
