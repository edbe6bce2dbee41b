#pragma once

#include "lock/hold.hpp"
#include "lock/wait.hpp"

#include <lockrun/lock.hpp>

#include <vector>

namespace lockrun {

// acquire() for request.also: all of the files or none. They are opened first and then locked in the order of device
// and inode, so that no two callers on a machine can wait for each other, whatever names they use in whatever order.
// Those that we have stay locked while we wait for the next one. A file that has several of the names is locked once,
// exclusively if one of them says so. Errors name the lock that they are about.
Result<std::vector<Hold>, Error> acquire_several(const LockRequest& request, const Patience& patience);

} // namespace lockrun
