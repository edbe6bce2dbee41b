#include "sys/control_group.hpp"

#include "sys/mount.hpp"
#include "sys/proc.hpp"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string_view>

#include <dirent.h>
#include <unistd.h>

namespace lockrun::sys {
namespace {

constexpr SysError k_none{"open", ENOENT};

// "/a/b" of "0::/a/b".
std::string path_in_hierarchy(std::string_view groups)
{
  constexpr std::string_view k_unified = "0::";
  while (!groups.empty()) {
    const std::string_view line = groups.substr(0, groups.find('\n'));
    groups.remove_prefix(std::min(line.size() + 1, groups.size()));
    if (line.starts_with(k_unified)) { return std::string(line.substr(k_unified.size())); }
  }
  return {};
}

} // namespace

Result<std::string> own_control_group()
{
  const auto groups = read_file("/proc/self/cgroup");
  if (!groups) { return tl::unexpected(groups.error()); }
  std::string path = path_in_hierarchy(*groups);
  if (path.empty() || path.find("/..") != std::string::npos) { return tl::unexpected(k_none); }
  const auto mount = first_mount_of("cgroup2");
  if (!mount) { return tl::unexpected(mount.error()); }
  if (path == "/") { path.clear(); }
  // Of a mount that shows only a part of the hierarchy.
  const std::string root = mount->root == "/" ? std::string() : mount->root;
  if (!path.starts_with(root) || (path.size() > root.size() && path[root.size()] != '/')) {
    return tl::unexpected(k_none);
  }
  return mount->place + path.substr(root.size());
}

Result<std::vector<std::string>> directories_in(const std::string& path, const char* prefix)
{
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), &::closedir);
  if (directory == nullptr) { return tl::unexpected(SysError{"opendir", errno}); }
  std::vector<std::string> found;
  while (const dirent* const entry = ::readdir(directory.get())) {
    const std::string_view name = &entry->d_name[0];
    if (entry->d_type == DT_DIR && name.starts_with(prefix)) { found.push_back(path + "/" + std::string(name)); }
  }
  return found;
}

Result<void> remove_directory(const char* path)
{
  if (::rmdir(path) != 0) { return tl::unexpected(SysError{"rmdir", errno}); }
  return {};
}

} // namespace lockrun::sys
