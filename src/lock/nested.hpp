#pragma once

#include "sys/file.hpp"
#include "sys/proc.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <optional>

namespace lockrun {

// A lock of our own tree's.
struct AncestorHold {
  Party holder; // the outermost one that has it: most likely who took it
  Mode mode = Mode::exclusive;
};

// What is known of the locks of our own tree: of us and our ancestors.
struct TreeLocks {
  std::optional<AncestorHold> held; // the one that was asked for
  bool has_any = false;             // any at all, as far as we may look
};

// A lock of this kind on the file, in the range if it has one, that we or an ancestor of ours hold: usually the holder
// waits for us to end, so waiting for its lock would never end. Decided from what the kernel shows of live processes
// (fdinfo; /proc/locks for those that we may not look into). A descriptor that outlived its lock counts for nothing.
// None also when nothing can be seen.
TreeLocks lock_of_ancestors(const sys::FileIdentity& identity, sys::LockLine::Kind kind, const Range& range);

// The first process of the machine, which most users may not look into, takes no locks for those whom it starts:
// because of it alone each of a thousand waiters would read /proc/locks. In a container it can be one of us.
inline bool is_init(const sys::ProcessStatus& process)
{
  return process.pid == 1 && process.name != "lockrun" && process.name != "flock";
}

} // namespace lockrun
