#pragma once

#include "sys/proc.hpp"

#include <lockrun/request.hpp>

#include <sys/types.h>

namespace lockrun::kernel {

// Whether it matters to a call that an ancestor of ours holds a lock that is busy. Without waiting such a lock is as
// busy as any other, unless the call may run under it.
bool asks_for_ancestors(const LockRequest& request);

// Whether `process` runs the file that we run, by whatever name it was started. False also where that is hidden.
bool runs_our_program(const sys::ProcessStatus& process);

// Whether `process` is a lockrun, which frees its lock as soon as its command has ended, whoever shares the lock.
bool frees_its_lock(const sys::ProcessStatus& process);

// Whether `parent` does not wait for its child `child`: it is a lockrun or a flock(1), which waits for one command, and
// has adopted `child`, an orphan that the command left behind, while the command still runs. What it holds, and what
// its own ancestors hold, will be released without `child`.
//
// No process says whose child it once was. But the kernel lists the children of a process in the order in which they
// came, and orphans come after the command: so `child` is not the command if that precedes it. Other children can
// precede both, those of the shell that became the lockrun, and what lockrun starts for its own purposes: they are told
// from the command by its environment, which names the lockrun. Where nothing precedes `child`, because it is the
// command or that has ended, a lockrun that still holds its lock waits for it (--hold tree).
bool is_adopted(const sys::ProcessStatus& child, const sys::ProcessStatus& parent);

} // namespace lockrun::kernel
