#pragma once

#include "sys/descriptor.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

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

} // namespace lockrun::sys
