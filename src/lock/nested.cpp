#include "lock/nested.hpp"

#include "backends/queue.hpp"
#include "lock/look_turn.hpp"
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

// Looks through the descriptors of one process. EACCES when it is not ours to look into.
class Look {
public:
  Look(const sys::FileIdentity& identity, LockLine::Kind kind, const Range& range)
    : m_identity(identity), m_kind(kind), m_range(range)
  {}

  // The line of the lock that `pid` holds.
  Result<std::optional<LockLine>> held_by(pid_t pid)
  {
    const auto descriptors = sys::descriptors_of(pid);
    if (!descriptors) { return tl::unexpected(descriptors.error()); }
    for (const int fd : *descriptors) {
      const auto status = sys::descriptor_status(pid, fd);
      // Listing them may be allowed where looking at them is not (proc_pid_fd(5)), and then none of them can be seen.
      if (!status && status.error().code == EACCES) { return tl::unexpected(status.error()); }
      if (!status) { continue; } // closed meanwhile
      const bool is_it = status->identity == m_identity;
      if (!is_it && (m_has_any || !sys::may_be_locked(status->type))) { continue; }
      const auto lines = sys::locks_of(pid, fd).value_or(std::vector<LockLine>());
      m_has_any = m_has_any || (!std::all_of(lines.begin(), lines.end(), backends::is_place) &&
                                 !LookTurn::may_be_on(status->identity));
      if (!is_it) { continue; }
      const auto found =
        std::find_if(lines.begin(), lines.end(), [&](const LockLine& line) { return matches(line, m_kind, m_range); });
      if (found != lines.end()) { return *found; }
    }
    return std::nullopt;
  }

  bool has_any() const noexcept { return m_has_any; }

private:
  const sys::FileIdentity& m_identity;
  LockLine::Kind m_kind;
  const Range& m_range;
  bool m_has_any = false; // of all that were looked through
};

// The locks that `hidden` took. The taker's number is all that /proc/locks shows; an ancestor that lives has kept its
// number.
std::vector<LockLine> taken_by(const std::vector<pid_t>& hidden)
{
  auto lines = sys::all_locks_checked().value_or(sys::LockList()).lines;
  const auto is_other = [&](const LockLine& line) {
    return line.waits || std::find(hidden.begin(), hidden.end(), line.pid) == hidden.end() ||
           backends::is_place(line) || LookTurn::may_be_on(line);
  };
  lines.erase(std::remove_if(lines.begin(), lines.end(), is_other), lines.end());
  return lines;
}

AncestorHold hold_of(pid_t pid, Mode mode)
{
  return {{pid, sys::command_line(pid).value_or(std::string()), {}}, mode};
}

} // namespace

TreeLocks lock_of_ancestors(const sys::FileIdentity& identity, LockLine::Kind kind, const Range& range)
{
  if (!sys::check_proc()) { return {}; }
  const pid_t us = sys::process_id();
  pid_t holder = 0;
  Mode mode = Mode::exclusive;
  std::vector<pid_t> hidden;
  Look look(identity, kind, range);
  for (pid_t pid = us; pid > 0;) {
    const auto found = look.held_by(pid);
    if (found && *found) {
      holder = pid;
      mode = (*found)->mode;
    }
    const auto status = sys::process_status(pid);
    const bool is_hidden = !found && found.error().code != ESRCH;
    if (is_hidden && !(status && is_init(*status))) { hidden.push_back(pid); }
    pid = status ? status->parent : 0;
  }
  // What only we have was inherited from somebody, maybe from one that we may not look into.
  bool has_any = look.has_any();
  if ((holder == 0 || holder == us) && !hidden.empty()) {
    for (const LockLine& line : taken_by(hidden)) {
      has_any = true;
      if (line.inode == identity.inode && matches(line, kind, range)) { return {hold_of(line.pid, line.mode), true}; }
    }
  }
  return {holder != 0 ? std::optional(hold_of(holder, mode)) : std::nullopt, has_any};
}

} // namespace lockrun
