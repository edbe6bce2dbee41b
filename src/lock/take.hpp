#pragma once

#include "backends/queue.hpp"
#include "lock/nested.hpp"
#include "lock/wait.hpp"
#include "sys/descriptor.hpp"

#include <lockrun/lock.hpp>

#include <cerrno>
#include <optional>

namespace lockrun {

// What there is to hold at the end: nothing of our own when an ancestor's lock covers us (Nested::run).
struct Taken {
  enum class Whose { ours, ancestors };
  Whose whose = Whose::ours;
  std::optional<int> slot{}; // with request.slots
};

// Takes the lock on an open file: tries, and queues when it is busy and may be waited for. `queue` is the same file,
// open for writing if the request queues (LockFile::queue_fd). All or none: nothing is left locked after an error, and
// nothing in the queue in any case: only then may `queue` be closed, which would drop its locks. Reasons: busy,
// too_many_waiters, timed_out, interrupted, nested, lock_failed, start_failed.
Result<Taken, Error> take(
  const sys::Descriptor& fd, const sys::Descriptor& queue, const LockRequest& request, const Patience& patience);

// What take() and take_in_turn() ask on their way.

inline bool may_wait(const LockRequest& request)
{
  return request.patience != std::chrono::nanoseconds(0);
}

// Whether it matters that an ancestor of ours holds a lock that is busy.
bool asks_for_ancestors(const LockRequest& request);

// Whether Patience::look_at_tree will do, which costs nothing when the lock is had soon.
bool may_look_later(const sys::FileIdentity& file, const LockRequest& request, const WaitPlan& plan);

// NFS turns flock into a lock on a range of bytes, and an exclusive one wants a file that is open for writing
// (flock(2), NFS details). That shows as EBADF, with some servers as EIO.
inline bool wants_writing(const Error& error)
{
  return error.reason == Reason::lock_failed && (error.cause.code == EBADF || error.cause.code == EIO);
}

// An ancestor has it: succeeds under its lock or fails, as the request says.
Result<Taken, Error> taken_by(AncestorHold ancestor, const LockRequest& request);

// With request.max_waiters: one of the places, or the reason too_many_waiters.
Result<void, Error> take_waiting_place(backends::WaitingPlace& place, const LockRequest& request);

} // namespace lockrun
