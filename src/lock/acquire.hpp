#pragma once

#include "lock/wait.hpp"

#include <lockrun/lock.hpp>

namespace lockrun {

// As acquire() of <lockrun/lock.hpp>, under a watch that may have begun before and ends with it.
Result<Lock, Error> acquire(const LockRequest& request, Watch& watch);

} // namespace lockrun
