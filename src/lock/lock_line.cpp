#include "lock/lock_line.hpp"

#include <limits>

#include <sys/sysmacros.h>

namespace lockrun {
namespace {

using sys::LockLine;

constexpr std::int64_t k_end_of_file = std::numeric_limits<std::int64_t>::max();

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

Range range_of(const LockLine& line)
{
  return {line.start, line.end == k_end_of_file ? 0 : line.end - line.start + 1};
}

bool is_same_file(const LockLine& one, const LockLine& other)
{
  return one.inode == other.inode && one.device_major == other.device_major && one.device_minor == other.device_minor;
}

bool is_on(const LockLine& line, const sys::FileIdentity& file)
{
  return line.inode == file.inode && line.device_major == major(file.device) && line.device_minor == minor(file.device);
}

bool overlap(const LockLine& one, const LockLine& other)
{
  return one.start <= other.end && other.start <= one.end;
}

bool exclude_each_other(const LockLine& one, const LockLine& other)
{
  if (one.kind == LockLine::Kind::lease || other.kind == LockLine::Kind::lease) { return false; }
  const bool see_each_other = (one.kind == LockLine::Kind::flock) == (other.kind == LockLine::Kind::flock);
  const bool is_exclusive = one.mode == Mode::exclusive || other.mode == Mode::exclusive;
  return see_each_other && is_exclusive && overlap(one, other);
}

bool is_same_lock(const LockLine& one, const LockLine& other)
{
  return one.kind == other.kind && one.mode == other.mode && one.pid == other.pid && one.start == other.start &&
         one.end == other.end;
}

} // namespace lockrun
