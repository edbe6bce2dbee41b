#pragma once

#include "sys/file.hpp"
#include "sys/proc.hpp"

#include <lockrun/request.hpp>

#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include <sys/types.h>

namespace lockrun {

// What a line of /proc/locks or fdinfo means. Nothing else in the source knows.

// What a request asks for, as the line that the kernel would show.
sys::LockLine line_of(sys::LockLine::Kind kind, Mode mode, const Range& range);

// --- which file ---

// Lines with the same key are on one file, or on two that share their name in the kernel's lists
// (sys::identity_in_locks).
using FileKey = std::tuple<unsigned, unsigned, ino_t>;
FileKey file_of(const sys::LockLine& line);

bool is_same_file(const sys::LockLine& one, const sys::LockLine& other);
// `file` as sys::identity_in_locks() names it.
bool is_on(const sys::LockLine& line, const sys::FileIdentity& file);
dev_t device_of(const sys::LockLine& line);

// --- which bytes ---

Range range_of(const sys::LockLine& line);
bool overlap(const sys::LockLine& one, const sys::LockLine& other);
// `line`, as far as it overlaps `other`.
std::optional<sys::LockLine> common_part(const sys::LockLine& line, const sys::LockLine& other);
void sort_by_start(std::vector<sys::LockLine>& lines);

// The parts of `wanted` that none of `held`, all on its file, covers: of the same family, in a mode that suffices. In
// order; for flock all or nothing.
std::vector<Range> uncovered(const std::vector<sys::LockLine>& held, const sys::LockLine& wanted);

// --- which lock ---

// Whether they can be the same lock, shown in /proc/locks and in the fdinfo of those who share it.
bool is_same_lock(const sys::LockLine& one, const sys::LockLine& other);

// Whether it belongs to a process, which shares it with no other; those of flock(2) and of the ofd kind belong to an
// open file description.
inline bool is_of_process(const sys::LockLine& line)
{
  return line.kind == sys::LockLine::Kind::posix;
}

// --- what it keeps from others ---

// Whether no two processes can hold these on one file at a time: not two shared ones, not a lock of flock(2) and one of
// fcntl(2), of whose two kinds each excludes the other. A lease excludes no lock.
bool exclude_each_other(const sys::LockLine& one, const sys::LockLine& other);

// Whether `held` keeps `wanted` from being granted.
bool blocks(const sys::LockLine& held, const sys::LockLine& wanted);

// --- what it is for (the layout of bytes: kernel/queue.hpp, kernel/slots.hpp) ---

// The slot of --slots that it is on.
std::optional<int> slot_of(const sys::LockLine& line);

// Whether it is held by a process that waits, and only as long: its place in the queue of --fair and --slots, or its
// place among those that --max-waiters lets wait. No process waits for the place itself, but for what its owner waits
// for.
bool is_of_waiter(const sys::LockLine& line);

// Whether it is a place in the queue of --fair and --slots. Whose it is, is certain: such a lock ends with its process.
bool is_queue_ticket(const sys::LockLine& line);

// The process that waits as `line`, one of `lines`, says; 0 if that is hidden. For a slot only the first one in the
// queue of its file waits, with an ofd lock, which has no number: it is the owner of the lowest ticket.
pid_t waiting_process(const std::vector<sys::LockLine>& lines, const sys::LockLine& line);

} // namespace lockrun
