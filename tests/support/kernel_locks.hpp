#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <sys/types.h>

namespace lockrun::testing {

// One line of /proc/locks (proc(5)).
struct KernelLockLine {
  bool waits = false; // the line has "->"
  std::string api;    // FLOCK, OFDLCK, POSIX, LEASE
  std::string mode;   // READ, WRITE
  pid_t pid = 0;      // -1 for ofd locks
  std::string start;
  std::string end; // a number or EOF
  friend bool operator==(const KernelLockLine&, const KernelLockLine&) = default;
};

// What /proc/locks says of the file that `path` names now. For file systems whose device numbers are stat's: not btrfs,
// not overlayfs.
std::vector<KernelLockLine> kernel_locks(const std::filesystem::path& path);
std::vector<KernelLockLine> kernel_holders(const std::filesystem::path& path);
int kernel_waiters(const std::filesystem::path& path);

// Whether the one lockrun that holds `path` has noted since when, which it does just after it has got the lock.
bool is_stamped(const std::filesystem::path& path);

} // namespace lockrun::testing
