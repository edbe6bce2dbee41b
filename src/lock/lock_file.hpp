#pragma once

#include "lock/wait.hpp"
#include "sys/file.hpp"

#include <lockrun/lock.hpp>

namespace lockrun {

// An open lock file and what is behind it.
struct LockFile {
  sys::Descriptor fd;
  sys::FileStatus status;
};

enum class Access { read, write };

// Opens the file or directory at request.path, and makes the file when it is missing and may be made. Never truncates,
// never writes, never hangs on a FIFO. A lease on the file (fcntl(2), F_SETLEASE: Samba, NFS servers) is waited for
// within the deadline. Reasons: open_failed, missing, wrong_type, timed_out, interrupted, start_failed.
Result<LockFile, Error> open_lock_file(const LockRequest& request, Access access, const Patience& patience);

// How a file must be open for the lock. Read-only where that will do: a file open for writing cannot be executed
// (ETXTBSY).
Access access_for(const LockRequest& request);

enum class Naming { same_file, another_file };

// While we opened or waited, somebody may have removed or replaced the file: a lock on a removed file excludes nobody.
// Reasons: open_failed.
Result<Naming, Error> what_is_named(const LockRequest& request, const sys::FileIdentity& identity);

} // namespace lockrun
