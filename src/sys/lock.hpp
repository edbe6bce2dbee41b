#pragma once

#include "sys/descriptor.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <optional>

#include <sys/types.h>

namespace lockrun::sys {

// Somebody else holding the lock is an answer, not an error; so is a signal handler that ended a blocking attempt
// (a wait with a time limit is ended that way).
enum class Attempt { acquired, busy, interrupted };

// flock(2) on the open file description behind `fd`. With Wait::allowed it queues in the kernel and blocks. Converting
// a lock that is held already is not atomic: it is given up first.
Result<Attempt> flock(const Descriptor& fd, Mode mode, Wait wait);
Result<void> flock_unlock(const Descriptor& fd);

// An open file description lock on `range` (fcntl(2), F_OFD_SETLK and F_OFD_SETLKW, Linux 3.15). A shared lock needs a
// readable descriptor, an exclusive one a writable one: otherwise EBADF.
Result<Attempt> ofd_lock(const Descriptor& fd, Mode mode, const Range& range, Wait wait);
Result<void> ofd_unlock(const Descriptor& fd, const Range& range);

// A lock of this process on `range` (fcntl(2), F_SETLK and F_SETLKW), on the same terms. No child inherits it, and it
// is dropped as soon as the process closes *any* descriptor of the file. EDEADLK: waiting would close a circle of
// processes that wait for such locks.
Result<Attempt> posix_lock(const Descriptor& fd, Mode mode, const Range& range, Wait wait);
Result<void> posix_unlock(const Descriptor& fd, const Range& range);

// A lock that stands in the way of another. A length of 0 is up to the end of the file, wherever that is.
struct Conflict {
  Mode mode = Mode::exclusive;
  Range range;
  pid_t pid = 0; // -1 for an ofd lock
};

// What would keep us from a lock on `range`, if anything: one of the ofd and posix locks, whichever the kernel finds
// first (F_GETLK, F_OFD_GETLK). Those that are ours in the one meaning or the other do not count.
Result<std::optional<Conflict>> posix_conflict(const Descriptor& fd, Mode mode, const Range& range);
Result<std::optional<Conflict>> ofd_conflict(const Descriptor& fd, Mode mode, const Range& range);

} // namespace lockrun::sys
