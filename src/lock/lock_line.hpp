#pragma once

#include "sys/file.hpp"
#include "sys/proc.hpp"

#include <lockrun/request.hpp>

namespace lockrun {

// What a line of /proc/locks or fdinfo means. Lines of two different files, or of which one still waits, are for the
// caller to tell apart.

// What a request asks for, as the line that the kernel would show.
sys::LockLine line_of(sys::LockLine::Kind kind, Mode mode, const Range& range);

// The bytes that it covers.
Range range_of(const sys::LockLine& line);

bool is_same_file(const sys::LockLine& one, const sys::LockLine& other);
// `file` as sys::identity_in_locks() names it.
bool is_on(const sys::LockLine& line, const sys::FileIdentity& file);

bool overlap(const sys::LockLine& one, const sys::LockLine& other);

// Whether no two processes can hold these on one file at a time: not two shared ones, not a lock of flock(2) and one of
// fcntl(2), of whose two kinds each excludes the other. A lease excludes no lock.
bool exclude_each_other(const sys::LockLine& one, const sys::LockLine& other);

// Whether they can be the same lock, shown in /proc/locks and in the fdinfo of those who share it.
bool is_same_lock(const sys::LockLine& one, const sys::LockLine& other);

} // namespace lockrun
