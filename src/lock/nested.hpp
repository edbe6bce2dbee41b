#pragma once

#include "sys/file.hpp"
#include "sys/proc.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <optional>

namespace lockrun {

// The process among ourselves and our ancestors that holds a lock of this kind on the file, in the range if it has one:
// usually it waits for us to end, so waiting for its lock would never end. Decided from what the kernel shows of live
// processes (fdinfo; /proc/locks for those that we may not look into). A descriptor that outlived its lock counts for
// nothing. None also when nothing can be seen.
std::optional<Party> holder_among_ancestors(
  const sys::FileIdentity& identity, sys::LockLine::Kind kind, const Range& range);

} // namespace lockrun
