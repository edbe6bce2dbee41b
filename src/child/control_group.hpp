#pragma once

#include "sys/descriptor.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace lockrun::child {

// A control group (cgroups(7), version 2) that a command starts in, so that its tree can be killed at once: processes
// that fork and end, and so on, outrun a sweep over them. It is made below our own group, if we may do that and our
// group passes no controllers on: otherwise processes in both would not be allowed, or would be treated differently.
// Needs Linux 5.14 (cgroup.kill).
//
// It is locked (flock(2)) while the process that made it lives, or a copy of that: the next one that makes a control
// group removes those that are left over.
class ControlGroup {
public:
  // None where there cannot be one.
  static std::optional<ControlGroup> make();

  // What a process starts in (sys::Program).
  const sys::Descriptor& directory() const noexcept { return m_directory; }

  // Kills every process that is in it, and those that they are about to fork.
  void kill() const;

  // Removes it; processes that are still in it move to our own.
  void remove() const;

private:
  ControlGroup(std::string parent, std::string path, sys::Descriptor directory, sys::Descriptor kill)
    : m_parent(std::move(parent)), m_path(std::move(path)), m_directory(std::move(directory)), m_kill(std::move(kill))
  {}

  std::string m_parent;
  std::string m_path;
  sys::Descriptor m_directory;
  sys::Descriptor m_kill;
};

// Whether `theirs` are the control groups of a process (the content of /proc/PID/cgroup) in such a group below ours.
bool is_in_made_group(std::string_view theirs, std::string_view ours);

} // namespace lockrun::child
