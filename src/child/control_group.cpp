#include "child/control_group.hpp"

#include "sys/control_group.hpp"
#include "sys/file.hpp"
#include "sys/lock.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"
#include "sys/signal.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string_view>
#include <vector>

#include <fcntl.h>

namespace lockrun::child {
namespace {

constexpr const char* k_prefix = "lockrun-tree-";
constexpr int k_names = 10;
// Members that fork while they are moved are met the next time.
constexpr int k_moves = 100;

bool write_to(const std::string& file, std::string_view text)
{
  const auto fd = sys::open(file.c_str(), O_WRONLY);
  return fd && sys::write(*fd, text).has_value();
}

std::vector<pid_t> members_of(const std::string& path)
{
  std::vector<pid_t> members;
  const auto text = sys::read_file((path + "/cgroup.procs").c_str());
  if (!text) { return members; }
  const char* at = text->c_str();
  for (char* end = nullptr;; at = end) {
    const long number = std::strtol(at, &end, 10);
    if (end == at) { return members; }
    if (number > 0) { members.push_back(static_cast<pid_t>(number)); } // 0: of another pid namespace
  }
}

// With those that a process in it may have made.
void remove_all(const std::string& path)
{
  if (const auto inner = sys::directories_in(path, k_prefix)) {
    for (const std::string& each : *inner) { remove_all(each); }
  }
  (void)sys::remove_directory(path.c_str()); // it is busy: left to others
}

std::optional<sys::Descriptor> lock(const std::string& path)
{
  auto directory = sys::open(path.c_str(), O_RDONLY | O_DIRECTORY);
  if (!directory) { return std::nullopt; }
  const auto locked = sys::flock(*directory, Mode::exclusive, Wait::never);
  if (!locked || *locked != sys::Attempt::acquired) { return std::nullopt; }
  return std::move(*directory);
}

void remove_leftovers(const std::string& parent)
{
  const auto found = sys::directories_in(parent, k_prefix);
  if (!found) { return; }
  for (const std::string& path : *found) {
    if (lock(path)) { remove_all(path); }
  }
}

} // namespace

std::optional<ControlGroup> ControlGroup::make()
{
  if (!sys::check_proc()) { return std::nullopt; }
  auto parent = sys::own_control_group();
  if (!parent) { return std::nullopt; }
  const auto passed_on = sys::read_file((*parent + "/cgroup.subtree_control").c_str());
  if (!passed_on || passed_on->find_first_not_of('\n') != std::string::npos) { return std::nullopt; }
  remove_leftovers(*parent);
  const std::string name = *parent + "/" + k_prefix + std::to_string(sys::process_id());
  for (int i = 0; i < k_names; ++i) {
    std::string path = i == 0 ? name : name + "-" + std::to_string(i);
    constexpr mode_t k_mode = 0755;
    if (const auto made = sys::mkdir(path.c_str(), k_mode); !made) {
      if (made.error().code == EEXIST) { continue; }
      return std::nullopt;
    }
    // Another one that makes its own has taken it for a leftover in between.
    auto directory = lock(path);
    if (!directory) { continue; }
    return ControlGroup(std::move(*parent), std::move(path), std::move(*directory));
  }
  return std::nullopt;
}

void ControlGroup::kill() const
{
  if (write_to(m_path + "/cgroup.kill", "1")) { return; }
  // Linux before 5.14: none of them can fork while all of them are killed.
  (void)write_to(m_path + "/cgroup.freeze", "1");
  for (const pid_t member : members_of(m_path)) { (void)sys::kill(member, SIGKILL); }
  (void)write_to(m_path + "/cgroup.freeze", "0");
}

void ControlGroup::remove() const
{
  for (int i = 0; i < k_moves; ++i) {
    const auto members = members_of(m_path);
    if (members.empty()) { break; }
    for (const pid_t member : members) { (void)write_to(m_parent + "/cgroup.procs", std::to_string(member)); }
  }
  remove_all(m_path);
}

std::string without_made_group(std::string groups)
{
  const std::string made = std::string("/") + k_prefix;
  const auto line = groups.find("0::");
  const auto end = groups.find('\n', line);
  const auto begin = groups.rfind(made, end);
  if (line == std::string::npos || begin == std::string::npos || begin < line || groups.find('/', begin + 1) < end) {
    return groups;
  }
  const bool is_below_root = groups[begin - 1] == ':';
  groups.erase(is_below_root ? begin + 1 : begin, end - begin - (is_below_root ? 1 : 0));
  return groups;
}

} // namespace lockrun::child
