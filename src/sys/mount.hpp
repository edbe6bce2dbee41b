#pragma once

#include "sys/descriptor.hpp"
#include "sys/file.hpp"

#include <lockrun/error.hpp>

#include <string>

namespace lockrun::sys {

// A mounted file system (proc(5), /proc/PID/mountinfo).
struct Mount {
  std::string type;    // "ext4", "nfs4", "fuse.sshfs"
  std::string place;   // where it is mounted
  std::string options; // of the mount and of the file system, between commas
  dev_t device = 0;    // of the file system's superblock; not always stat's (btrfs, overlayfs)
};

// The one that an open file is on. ENODEV: the kernel does not tell.
Result<Mount> mount_of(const Descriptor& fd);

// The file behind descriptor `fd` of ours as /proc/locks names it: the superblock's device and the number that the file
// system itself has for the inode. Where the kernel does not tell them (a mount outside our root; Linux before 5.14),
// stat's, which are `status`. The name belongs to one file only where its device is stat's: the subvolumes of btrfs and
// the layers of overlayfs number their files each for itself.
FileIdentity identity_in_locks(int fd, const FileIdentity& status);

} // namespace lockrun::sys
