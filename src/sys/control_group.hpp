#pragma once

#include <lockrun/error.hpp>

#include <string>
#include <vector>

namespace lockrun::sys {

// The directory of our own control group in the unified hierarchy (cgroups(7), version 2), from /proc/self/cgroup and
// /proc/self/mountinfo. ENOENT: there is none that we can see.
Result<std::string> own_control_group();

// The directories in `path` whose names begin with `prefix`, as whole paths (readdir(3)).
Result<std::vector<std::string>> directories_in(const std::string& path, const char* prefix);

// rmdir(2). EBUSY: a process or another control group is in it.
Result<void> remove_directory(const char* path);

} // namespace lockrun::sys
