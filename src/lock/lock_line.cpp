#include "lock/lock_line.hpp"

#include "kernel/queue.hpp"
#include "kernel/slots.hpp"

#include <algorithm>
#include <limits>

#include <sys/sysmacros.h>

namespace lockrun {
namespace {

using sys::LockLine;

constexpr std::int64_t k_end_of_file = std::numeric_limits<std::int64_t>::max();

// The locks of flock(2) and those of fcntl(2) do not see each other. Leases are no locks.
bool is_of_one_family(const LockLine& one, const LockLine& other)
{
  if (one.kind == LockLine::Kind::lease || other.kind == LockLine::Kind::lease) { return false; }
  return (one.kind == LockLine::Kind::flock) == (other.kind == LockLine::Kind::flock);
}

bool suffices(const LockLine& held, const LockLine& wanted)
{
  return is_of_one_family(held, wanted) && (held.mode == Mode::exclusive || wanted.mode == Mode::shared);
}

} // namespace

LockLine line_of(LockLine::Kind kind, Mode mode, const Range& range)
{
  LockLine line;
  line.kind = kind;
  line.mode = mode;
  line.end = k_end_of_file; // flock(2) locks all of a file, which the kernel shows as "0 EOF"
  if (kind == LockLine::Kind::flock) { return line; }
  line.start = range.start;
  const bool is_to_the_end = range.length == 0 || range.length > k_end_of_file - range.start;
  if (!is_to_the_end) { line.end = range.start + range.length - 1; }
  return line;
}

FileKey file_of(const LockLine& line)
{
  return {line.device_major, line.device_minor, line.inode};
}

bool is_same_file(const LockLine& one, const LockLine& other)
{
  return file_of(one) == file_of(other);
}

bool is_on(const LockLine& line, const sys::FileIdentity& file)
{
  return file_of(line) == FileKey{major(file.device), minor(file.device), file.inode};
}

dev_t device_of(const LockLine& line)
{
  return makedev(line.device_major, line.device_minor);
}

Range range_of(const LockLine& line)
{
  return {line.start, line.end == k_end_of_file ? 0 : line.end - line.start + 1};
}

bool overlap(const LockLine& one, const LockLine& other)
{
  return one.start <= other.end && other.start <= one.end;
}

std::optional<LockLine> common_part(const LockLine& line, const LockLine& other)
{
  if (!overlap(line, other)) { return std::nullopt; }
  LockLine part = line;
  part.start = std::max(line.start, other.start);
  part.end = std::min(line.end, other.end);
  return part;
}

void sort_by_start(std::vector<LockLine>& lines)
{
  std::sort(lines.begin(), lines.end(), [](const LockLine& a, const LockLine& b) { return a.start < b.start; });
}

std::vector<Range> uncovered(const std::vector<LockLine>& held, const LockLine& wanted)
{
  std::vector<LockLine> covers;
  std::copy_if(
    held.begin(), held.end(), std::back_inserter(covers), [&](const LockLine& line) { return suffices(line, wanted); });
  sort_by_start(covers);
  std::vector<Range> missing;
  LockLine rest = wanted;
  for (const LockLine& cover : covers) {
    if (!overlap(cover, rest)) { continue; }
    if (cover.start > rest.start) {
      LockLine gap = rest;
      gap.end = cover.start - 1;
      missing.push_back(range_of(gap));
    }
    if (cover.end >= rest.end) { return missing; }
    rest.start = cover.end + 1;
  }
  missing.push_back(range_of(rest));
  return missing;
}

bool is_same_lock(const LockLine& one, const LockLine& other)
{
  return is_same_file(one, other) && one.kind == other.kind && one.mode == other.mode && one.pid == other.pid &&
         one.start == other.start && one.end == other.end;
}

bool exclude_each_other(const LockLine& one, const LockLine& other)
{
  const bool is_exclusive = one.mode == Mode::exclusive || other.mode == Mode::exclusive;
  return is_of_one_family(one, other) && is_exclusive && overlap(one, other);
}

bool blocks(const LockLine& held, const LockLine& wanted)
{
  return !held.waits && is_same_file(held, wanted) && exclude_each_other(held, wanted);
}

std::optional<int> slot_of(const LockLine& line)
{
  const std::int64_t slot = line.start - kernel::byte_of_slot(0).start;
  const bool is_slot = line.kind == LockLine::Kind::ofd && slot >= 0 && slot < kernel::k_most_slots;
  return is_slot ? std::optional(static_cast<int>(slot)) : std::nullopt;
}

bool is_of_waiter(const LockLine& line)
{
  return line.start >= kernel::k_first_waiting_place;
}

bool is_queue_ticket(const LockLine& line)
{
  return line.kind == LockLine::Kind::posix && !line.waits && line.start >= kernel::k_queue;
}

pid_t waiting_process(const std::vector<LockLine>& lines, const LockLine& line)
{
  if (!slot_of(line)) { return std::max(line.pid, 0); }
  const LockLine* first = nullptr;
  for (const LockLine& other : lines) {
    if (!is_queue_ticket(other) || !is_same_file(other, line)) { continue; }
    if (first == nullptr || other.start < first->start) { first = &other; }
  }
  return first == nullptr ? 0 : std::max(first->pid, 0);
}

} // namespace lockrun
