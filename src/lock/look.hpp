#pragma once

#include "lock/subject.hpp"

#include <lockrun/request.hpp>
#include <lockrun/status.hpp>

#include <optional>
#include <vector>

#include <sys/types.h>

namespace lockrun {

// The passive look: who holds a lock and who waits for it, as far as /proc shows it. Nothing is locked or opened, so
// what is seen is never `free`: it is `unknown` when no holder is seen. status() asks then.

// For messages, or for the whole truth.
enum class Detail { brief, full };

LockStatus look_at(const Subject& subject, Detail detail);

// The same in brief, in these processes alone: the list of all locks, which is long when many wait, is not read.
LockStatus look_among(const Subject& subject, const std::vector<pid_t>& processes);

// What look() would look at. None if there is no such file, or it cannot be seen.
std::optional<Subject> subject_of(const LockRequest& request);

} // namespace lockrun
