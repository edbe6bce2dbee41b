#pragma once

#include "sys/descriptor.hpp"

#include <lockrun/error.hpp>

#include <string>

namespace lockrun::sys {

// A mounted file system (proc(5), /proc/PID/mountinfo).
struct Mount {
  std::string type;    // "ext4", "nfs4", "fuse.sshfs"
  std::string place;   // where it is mounted
  std::string options; // of the mount and of the file system, between commas
};

// The one that an open file is on. ENODEV: the kernel does not tell.
Result<Mount> mount_of(const Descriptor& fd);

} // namespace lockrun::sys
