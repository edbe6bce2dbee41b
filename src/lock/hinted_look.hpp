#pragma once

#include "lock/holder_hint.hpp"

#include <lockrun/request.hpp>
#include <lockrun/status.hpp>

#include <optional>

namespace lockrun {

// Looks for callers of which there may be many at the same time: look() reads the list of all locks, which is long when
// many wait. What one of them has found is a hint for the others.

// What a look has found, and as long as it exists a hint at that for the others who look at the same lock.
struct Sight {
  LockStatus status{};
  std::optional<HolderHint> hint{};
};

// What is known of the holders, `seen` by an earlier look or from the hints of others, brought up to date from what
// these have open alone. None when they no longer have the lock, or when that cannot be seen.
std::optional<LockStatus> look_again(const LockRequest& request, const LockStatus& seen);
std::optional<LockStatus> look_at_hint(const LockRequest& request);

// look(), and leaves a hint if there is one holder.
Sight look_and_hint(const LockRequest& request);

// The same or look_at_hint(), for the last words of a call: one process at a time looks at this lock. None when that
// would take more than a few milliseconds of waiting.
std::optional<Sight> look_or_take_hint(const LockRequest& request);

} // namespace lockrun
