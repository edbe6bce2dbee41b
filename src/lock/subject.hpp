#pragma once

#include "sys/file.hpp"
#include "sys/proc.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <string>

namespace lockrun {

// The file whose holders are looked for, and which of its locks matter.
struct Subject {
  sys::FileStatus file;
  sys::FileIdentity name; // as /proc/locks has it
  bool with_flock = true;
  bool with_ranges = true; // ofd and POSIX locks
  Range range{};

  // Whether what the kernel calls by that name is this file and no other (see sys::identity_in_locks).
  bool is_unique() const { return name.device == file.identity.device; }

  // Whether a line about this file is about one of these locks.
  bool includes(const sys::LockLine& line) const;
};

// Under which name the file can be asked for. It need not exist.
Result<std::string, Error> path_of(const LockRequest& request);

// The file's name in the kernel's lists of locks. Only named (O_PATH), not opened: to close an open file would drop a
// POSIX lock that we may have on it (fcntl_locking(2)), and to open it could break a lease.
sys::FileIdentity name_in_locks(const LockRequest& request, const std::string& path, const sys::FileStatus& file);

} // namespace lockrun
