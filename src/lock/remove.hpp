#pragma once

#include "lock/hold.hpp"

namespace lockrun {

// Removes the lock file while it is still locked exclusively, so that no waiter can be left with a removed file:
// whoever gets the lock next sees that the path names it no more, and starts again. A shared holder turns its lock
// exclusive without waiting (flock(2): the shared one is given up for that). Left alone unless it is a regular, empty
// file with one link that the path still names. The error is unlink(2)'s.
Result<void> remove_lock_file(const Hold& hold);

} // namespace lockrun
