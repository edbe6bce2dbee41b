#pragma once

#include "kernel/queue.hpp"
#include "lock/nested.hpp"
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

// What take() and take_in_turn() ask on their way.

inline bool may_wait(const LockRequest& request)
{
  return request.patience != std::chrono::nanoseconds(0);
}

// Whether it matters that an ancestor of ours holds a lock that is busy.
bool asks_for_ancestors(const LockRequest& request);

// Whether Patience::look_at_tree will do, which costs nothing when the lock is had soon.
bool may_look_later(const sys::Descriptor& fd, const LockRequest& request, const WaitPlan& plan);

// For Patience::look_at_tree.
TreeLook tree_look(const TreeLocks& tree, const AncestorLock* in_the_way);

// NFS turns flock into a lock on a range of bytes, and an exclusive one wants a file that is open for writing
// (flock(2), NFS details). That shows as EBADF, with some servers as EIO.
inline bool wants_writing(const Error& error)
{
  return error.reason == Reason::lock_failed && (error.cause.code == EBADF || error.cause.code == EIO);
}

// Our tree holds some of what is busy. Tries once more, before all who queue, because they wait for our ancestor and it
// waits for us; with Nested::run only for what the ancestors' locks do not cover, also later. Fails when one of these
// is in our way; none: it is for us to wait for.
Result<std::optional<Taken>, Error> go_before_ancestors(
  Wanted& wanted, const TreeLocks& tree, const LockRequest& request);

// With request.max_waiters: one of the places, or the reason too_many_waiters.
Result<void, Error> take_waiting_place(kernel::WaitingPlace& place, const LockRequest& request);

} // namespace lockrun
