#pragma once

#include "sys/descriptor.hpp"
#include "sys/proc.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <optional>
#include <vector>

namespace lockrun {

// A lock on the file in question that an ancestor of ours holds, or we ourselves, with a descriptor that we inherited.
struct AncestorLock {
  pid_t holder = 0;
  sys::LockLine line;
};

// What is known of the locks of our own tree: of us and our ancestors.
struct TreeLocks {
  std::vector<AncestorLock> held; // on the file, from us outwards
  bool has_any = false;           // any lock on any file, as far as we may look
  // A lockrun that is alive will free what would otherwise count here, and then waits for us after all or has ended: to
  // be looked at again.
  bool may_change = false;
  // Some of these were seen in /proc/locks only, where the file shares its name with others (sys::identity_in_locks).
  // None of the others can be what is busy, but the lock may have become free before the list was read.
  bool is_uncertain = false;
};

// What our tree holds on the file behind `fd`. Usually an ancestor waits for us to end, so waiting for its lock would
// never end; and until then it keeps others out of what it has locked. Decided from what the kernel shows of live
// processes (fdinfo; /proc/locks for those that we may not look into). These do not count:
// - a lock of our own open file description, `fd` (or the caller's descriptor that it is a copy of): it is not in our
//   way, and nobody's whom we would wait for;
// - a descriptor that outlived its lock;
// - what the ancestors of a lockrun that adopted us hold (kernel/ancestry.hpp), and that lockrun itself;
// - a lock that we inherited while the lockrun that will free it lives, and is no ancestor of ours.
// Nothing also when nothing can be seen.
TreeLocks locks_of_tree(const sys::Descriptor& fd, std::optional<int> callers);

// The lock that keeps us from `wanted`: of several the outermost one's, which most likely took it. Null: none of these.
const AncestorLock* in_the_way(const TreeLocks& tree, const sys::LockLine& wanted);

// The parts of `wanted` that no lock of the tree covers.
std::vector<Range> uncovered(const TreeLocks& tree, const sys::LockLine& wanted);

// For messages.
Party party_of(const AncestorLock& lock);

// The first process of the machine, which most users may not look into, takes no locks for those whom it starts:
// because of it alone each of a thousand waiters would read /proc/locks. In a container it can be one of us.
inline bool is_init(const sys::ProcessStatus& process)
{
  return process.pid == 1 && process.name != "lockrun" && process.name != "flock";
}

} // namespace lockrun
