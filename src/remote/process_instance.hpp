#pragma once

#include "sys/proc.hpp"

#include <string>
#include <string_view>

#include <sys/types.h>

namespace lockrun::remote {

// What makes the number of a process of ours the name of one process forever: this run of this machine (random(4)),
// the namespace of the number (pid_namespaces(7)), and its start. Empty if we cannot know.
std::string instance_of(const sys::ProcessStatus& process);

// Whether the process that another call has published with this number and instance is an ancestor of ours. A number
// proves nothing, not even with the name of a host: containers and clones have both in common.
bool is_ancestor(pid_t pid, std::string_view instance);

} // namespace lockrun::remote
