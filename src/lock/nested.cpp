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

// EACCES when `pid` is not ours to look into.
Result<bool> holds(pid_t pid, const sys::FileIdentity& identity, LockLine::Kind kind, const Range& range)
{
  const auto descriptors = sys::descriptors_of(pid, identity);
  if (!descriptors) { return tl::unexpected(descriptors.error()); }
  for (const int fd : *descriptors) {
    const auto lines = sys::locks_of(pid, fd);
    if (!lines) { continue; } // closed meanwhile
    if (std::any_of(lines->begin(), lines->end(), [&](const auto& line) { return matches(line, kind, range); })) {
      return true;
    }
  }
  return false;
}

// The taker's number is all that /proc/locks shows; an ancestor that lives has kept its number.
std::optional<pid_t> taker_among(
  const std::vector<pid_t>& hidden, const sys::FileIdentity& identity, LockLine::Kind kind, const Range& range)
{
  const auto lines = sys::all_locks();
  if (!lines) { return std::nullopt; }
  for (const LockLine& line : *lines) {
    if (line.inode != identity.inode || !matches(line, kind, range)) { continue; }
    if (std::find(hidden.begin(), hidden.end(), line.pid) != hidden.end()) { return line.pid; }
  }
  return std::nullopt;
}

Party party_of(pid_t pid)
{
  return {pid, sys::command_line(pid).value_or(std::string()), {}};
}

} // namespace

std::optional<Party> holder_among_ancestors(const sys::FileIdentity& identity, LockLine::Kind kind, const Range& range)
{
  std::vector<pid_t> hidden;
  pid_t pid = sys::process_id();
  while (pid > 0) {
    const auto found = holds(pid, identity, kind, range);
    if (found && *found) { return party_of(pid); }
    if (!found && found.error().code != ESRCH) { hidden.push_back(pid); }
    const auto status = sys::process_status(pid);
    pid = status ? status->parent : 0;
  }
  if (hidden.empty()) { return std::nullopt; }
  const auto taker = taker_among(hidden, identity, kind, range);
  return taker ? std::optional(party_of(*taker)) : std::nullopt;
}

} // namespace lockrun
