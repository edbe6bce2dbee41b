#include "child/control_group.hpp"

#include "sys/file.hpp"
#include "sys/lock.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"

#include <fcntl.h>

namespace lockrun::child {
namespace {

constexpr std::string_view k_prefix = "lockrun-tree-";
constexpr int k_names = 4;
// Members that fork while they are moved are met the next time.
constexpr int k_moves = 100;

std::string in(const std::string& directory, std::string_view name)
{
  std::string path = directory;
  path += '/';
  path += name;
  return path;
}

// The directory of our own control group in the unified hierarchy, where systemd and others mount that. Empty: there is
// none that we can see, or it passes on controllers.
std::string own_directory()
{
  auto groups = sys::read_file("/proc/self/cgroup");
  if (!groups) { return {}; }
  const auto line = groups->find("0::/"); // the last one
  if (line == std::string::npos || (line != 0 && (*groups)[line - 1] != '\n')) { return {}; }
  const std::string path = groups->substr(line + 3, groups->find('\n', line) - line - 3);
  if (path.starts_with("/..")) { return {}; } // outside our namespace
  for (const char* const mount : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    std::string directory = path == "/" ? mount : mount + path;
    const auto passed_on = sys::read_file(in(directory, "cgroup.subtree_control").c_str());
    if (passed_on) { return passed_on->find_first_not_of('\n') == std::string::npos ? directory : std::string(); }
  }
  return {};
}

std::optional<sys::Descriptor> lock(const std::string& path)
{
  auto directory = sys::open(path.c_str(), O_RDONLY | O_DIRECTORY);
  if (!directory) { return std::nullopt; }
  const auto locked = sys::flock(*directory, Mode::exclusive, Wait::never);
  if (!locked || *locked != sys::Attempt::acquired) { return std::nullopt; }
  return std::move(*directory);
}

// With those that processes in it may have made.
void remove_all(const std::string& path)
{
  for (const std::string& each : sys::entries_of(path.c_str(), k_prefix)) { remove_all(in(path, each)); }
  (void)sys::rmdir(path.c_str()); // it is busy: left to others
}

void remove_leftovers(const std::string& parent)
{
  for (const std::string& each : sys::entries_of(parent.c_str(), k_prefix)) {
    const std::string path = in(parent, each);
    if (const auto locked = lock(path)) { remove_all(path); }
  }
}

} // namespace

std::optional<ControlGroup> ControlGroup::make()
{
  if (!sys::check_proc()) { return std::nullopt; }
  std::string parent = own_directory();
  if (parent.empty()) { return std::nullopt; }
  remove_leftovers(parent);
  std::string path = in(parent, k_prefix) + std::to_string(sys::process_id());
  // A name can be that of a process in another pid namespace. And a caller that makes its own group can take ours for a
  // leftover before we have locked it.
  for (int i = 0; i < k_names; ++i, path += "-") {
    constexpr mode_t k_mode = 0755;
    if (const auto made = sys::mkdir(path.c_str(), k_mode); !made) {
      if (made.error().code == EEXIST) { continue; }
      break;
    }
    auto directory = lock(path);
    if (!directory) { continue; }
    auto kill = sys::open(in(path, "cgroup.kill").c_str(), O_WRONLY);
    if (kill) { return ControlGroup(std::move(parent), std::move(path), std::move(*directory), std::move(*kill)); }
    (void)sys::rmdir(path.c_str());
  }
  return std::nullopt;
}

void ControlGroup::kill() const
{
  (void)sys::write(m_kill, "1"); // in vain: the tree is swept as well
}

void ControlGroup::remove() const
{
  for (int i = 0; i < k_moves; ++i) {
    const auto members = sys::process_ids_in(in(m_path, "cgroup.procs").c_str());
    if (!members || members->empty()) { break; }
    const auto parents = sys::open(in(m_parent, "cgroup.procs").c_str(), O_WRONLY);
    if (!parents) { break; }
    for (const pid_t member : *members) { (void)sys::write(*parents, std::to_string(member)); }
  }
  remove_all(m_path);
}

bool is_in_made_group(std::string_view theirs, std::string_view ours)
{
  while (ours.ends_with('\n') || ours.ends_with('/')) { ours.remove_suffix(1); }
  if (!theirs.starts_with(ours)) { return false; }
  theirs.remove_prefix(ours.size());
  return theirs.starts_with('/') && theirs.substr(1).starts_with(k_prefix);
}

} // namespace lockrun::child
