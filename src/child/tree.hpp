#pragma once

#include "sys/proc.hpp"

#include <lockrun/error.hpp>

#include <vector>

namespace lockrun::child {

// The processes that descend from this one, a subreaper: what a daemon started, however often it forked and whatever
// session it made, is among them.
class Tree {
public:
  // Remembers what descends from us already: whoever executed this program started it, it is none of ours.
  static Result<Tree> before_start();

  // Those that live now, parents before children; zombies are left out. They can fork while we look, so an empty answer
  // proves nothing unless the kernel says that there is no child (ECHILD).
  Result<std::vector<sys::ProcessStatus>> members() const;

  // Those that are our own children, zombies included. Read in no time, where members() reads a file for each process
  // of the machine; empty where the kernel does not tell.
  std::vector<pid_t> children() const;

  bool has_strangers() const noexcept { return !m_strangers.empty(); }

private:
  bool is_stranger(const sys::ProcessStatus& process) const;
  // Those among `all` that descend from us and are no strangers, parents first.
  std::vector<sys::ProcessStatus> descendants(const std::vector<sys::ProcessStatus>& all) const;

  std::vector<sys::ProcessStatus> m_strangers;
};

enum class Delivery { sent, gone, refused };

// Sends `signal` to just this process: a number that has been given to somebody else meanwhile is left alone.
Delivery send(const sys::ProcessStatus& process, int signal);

} // namespace lockrun::child
