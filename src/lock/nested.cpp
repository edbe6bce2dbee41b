#include "lock/nested.hpp"

#include "sys/process.hpp"

#include <algorithm>
#include <cerrno>
#include <vector>

namespace lockrun {
namespace {

using sys::LockLine;

bool matches(const LockLine& line, LockLine::Kind kind, const Range& range)
{
  if (line.waits || line.kind != kind) { return false; }
  if (kind == LockLine::Kind::flock) { return true; }
  return line.start < range.start + range.length && line.end >= range.start;
}

// The line of the lock that `pid` holds. EACCES when it is not ours to look into.
Result<std::optional<LockLine>> held_by(
  pid_t pid, const sys::FileIdentity& identity, LockLine::Kind kind, const Range& range)
{
  const auto descriptors = sys::descriptors_of(pid, identity);
  if (!descriptors) { return tl::unexpected(descriptors.error()); }
  for (const int fd : *descriptors) {
    const auto lines = sys::locks_of(pid, fd).value_or(std::vector<LockLine>()); // none if it was closed meanwhile
    const auto found =
      std::find_if(lines.begin(), lines.end(), [&](const LockLine& line) { return matches(line, kind, range); });
    if (found != lines.end()) { return *found; }
  }
  return std::nullopt;
}

// The taker's number is all that /proc/locks shows; an ancestor that lives has kept its number.
std::optional<LockLine> taken_by(
  const std::vector<pid_t>& hidden, const sys::FileIdentity& identity, LockLine::Kind kind, const Range& range)
{
  for (const LockLine& line : sys::all_locks().value_or(std::vector<LockLine>())) {
    if (line.inode != identity.inode || !matches(line, kind, range)) { continue; }
    if (std::find(hidden.begin(), hidden.end(), line.pid) != hidden.end()) { return line; }
  }
  return std::nullopt;
}

AncestorHold hold_of(pid_t pid, Mode mode)
{
  return {{pid, sys::command_line(pid).value_or(std::string()), {}}, mode};
}

} // namespace

std::optional<AncestorHold> lock_of_ancestors(
  const sys::FileIdentity& identity, LockLine::Kind kind, const Range& range)
{
  const pid_t us = sys::process_id();
  pid_t holder = 0;
  Mode mode = Mode::exclusive;
  std::vector<pid_t> hidden;
  for (pid_t pid = us; pid > 0;) {
    const auto found = held_by(pid, identity, kind, range);
    if (found && *found) {
      holder = pid;
      mode = (*found)->mode;
    }
    if (!found && found.error().code != ESRCH) { hidden.push_back(pid); }
    const auto status = sys::process_status(pid);
    pid = status ? status->parent : 0;
  }
  // What only we have was inherited from somebody, maybe from one that we may not look into.
  if ((holder == 0 || holder == us) && !hidden.empty()) {
    if (const auto line = taken_by(hidden, identity, kind, range)) { return hold_of(line->pid, line->mode); }
  }
  return holder != 0 ? std::optional(hold_of(holder, mode)) : std::nullopt;
}

} // namespace lockrun
