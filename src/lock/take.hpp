#pragma once

#include "kernel/queue.hpp"
#include "lock/wait.hpp"
#include "lock/wanted.hpp"
#include "sys/descriptor.hpp"

#include <lockrun/lock.hpp>

#include <cerrno>
#include <optional>

namespace lockrun {

// Takes the lock on an open file: tries, and queues when it is busy and may be waited for. `queue` is the same file,
// open for writing if the request queues (LockFile::queue_fd). All or none: nothing is left locked after an error, and
// nothing in the queue in any case: only then may `queue` be closed, which would drop its locks. Reasons: busy,
// too_many_waiters, timed_out, interrupted, nested, lock_failed, start_failed.
Result<Taken, Error> take(
  const sys::Descriptor& fd, const sys::Descriptor& queue, const LockRequest& request, const Patience& patience);

// Whether what was left to the locks of our ancestors is still theirs, after a wait for the rest.
bool is_still_covered(const Taken& taken, const sys::Descriptor& fd, const LockRequest& request);

// NFS turns flock into a lock on a range of bytes, and an exclusive one wants a file that is open for writing
// (flock(2), NFS details). That shows as EBADF, with some servers as EIO.
inline bool wants_writing(const Error& error)
{
  return error.reason == Reason::lock_failed && (error.cause.code == EBADF || error.cause.code == EIO);
}

// With request.max_waiters: one of the places, or the reason too_many_waiters.
Result<void, Error> take_waiting_place(kernel::WaitingPlace& place, const LockRequest& request);

} // namespace lockrun
