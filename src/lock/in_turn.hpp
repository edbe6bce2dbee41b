#pragma once

#include "lock/take.hpp"

namespace lockrun {

// take() for --fair and --slots: first come first served. Who finds nobody queueing tries at once; everybody else waits
// in the queue of the file (kernel/queue.hpp), and only the first one there waits for the lock, or for a slot.
Result<Taken, Error> take_in_turn(Wanted& wanted, const sys::Descriptor& fd, const sys::Descriptor& queue,
  const LockRequest& request, const Patience& how);

} // namespace lockrun
