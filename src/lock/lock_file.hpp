#pragma once

#include "lock/wait.hpp"
#include "sys/file.hpp"

#include <lockrun/lock.hpp>

#include <optional>

namespace lockrun {

// An open lock file and what is behind it.
struct LockFile {
  sys::Descriptor fd; // the one that the lock is taken through, and that the command inherits
  sys::FileStatus status;
  sys::Descriptor own_queue_fd{}; // open for writing where `fd` is not, and the request queues

  // For what is locked beside the lock itself: see kernel/queue.hpp.
  const sys::Descriptor& queue_fd() const noexcept { return own_queue_fd.is_open() ? own_queue_fd : fd; }
};

enum class Access { read, write };

// Whether bytes of the file are locked beside the lock itself (kernel/queue.hpp, kernel/slots.hpp): only a regular file
// that is open for writing has such.
bool queues(const LockRequest& request);

// Opens the file, directory or device at request.path, and makes the file when it is missing and may be made. Never
// truncates, never writes, never hangs on a FIFO: what the path names is looked at before it is opened, and a FIFO or
// device that takes its place in that instant is refused once it is open. A lease on the file (fcntl(2), F_SETLEASE:
// Samba, NFS servers) is waited for within the deadline. Reasons: open_failed, missing, wrong_type, harmful_device,
// timed_out, interrupted, start_failed.
Result<LockFile, Error> open_lock_file(const LockRequest& request, Access access, const Patience& patience);

// Why a file of this kind is no lock, if that is so: to open a FIFO, or a watchdog, does something to it.
std::optional<Reason> refusal_of(const sys::FileStatus& status);

// How a file must be open for the lock. Read-only where that will do: a file open for writing cannot be executed
// (ETXTBSY), and the command inherits the descriptor, even if it gives up the right to write to the file.
Access access_for(const LockRequest& request);

// Whether open_lock_file() opens the file a second time, for the queue alone.
bool has_own_queue_fd(const LockRequest& request);

enum class Naming { same_file, another_file };

// While we opened or waited, somebody may have removed or replaced the file: a lock on a removed file excludes nobody.
// Reasons: open_failed.
Result<Naming, Error> what_is_named(const LockRequest& request, const sys::FileIdentity& identity);

} // namespace lockrun
