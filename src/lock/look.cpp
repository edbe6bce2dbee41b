#include "lock/look.hpp"

#include "lock/lock_line.hpp"
#include "lock/stamp.hpp"
#include "sys/clock.hpp"
#include "sys/mount.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"
#include "sys/signal.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace lockrun {
namespace {

using std::chrono::nanoseconds;
using sys::LockLine;

constexpr std::size_t k_holders_in_brief = 3;
// How often to look again when holders come and go so fast that what was seen is not one moment's truth.
constexpr int k_more_looks = 3;
// How long a glance may look for a process that has the lock, among all that there are.
constexpr nanoseconds k_longest_search = std::chrono::milliseconds(100);

LockApi api_of(const LockLine& line)
{
  switch (line.kind) {
  case LockLine::Kind::ofd:
    return LockApi::ofd;
  case LockLine::Kind::posix:
    return LockApi::posix;
  default:
    return LockApi::flock;
  }
}

// A process with a descriptor that has a lock.
struct Sighting {
  pid_t pid;
  LockLine line;
  std::int64_t offset;
  std::optional<int> slot; // that the same descriptor has
};

bool contains(const std::vector<pid_t>& pids, pid_t pid)
{
  return std::find(pids.begin(), pids.end(), pid) != pids.end();
}

bool is_alive(pid_t pid)
{
  const auto asked = sys::kill(pid, 0);
  return asked || asked.error().code == EPERM;
}

// Looks once. /proc/locks names those who took a lock; what their descriptors show decides.
class Look {
public:
  Look(const Subject& subject, Detail detail) : m_subject(subject), m_detail(detail), m_now(sys::wall_now()) {}

  LockStatus run()
  {
    read_lines();
    look_at_takers();
    if (!m_lost.empty() || m_taken.empty()) { look_at_everybody(); }
    tell_lost();
    tell_sighted();
    count_more();
    settle_state();
    if (m_detail == Detail::full) {
      for (Waiter& waiter : m_status.waiters) { describe(waiter); }
    }
    return std::move(m_status);
  }

  // The same of these processes alone.
  LockStatus run_among(const std::vector<pid_t>& processes)
  {
    for (const pid_t pid : processes) { (void)look_into(pid); }
    tell_sighted();
    settle_state();
    return std::move(m_status);
  }

  // Whether the lock changed hands meanwhile, so that the end of the look does not fit its beginning.
  bool is_outdated() const { return tells_too_much() || (!m_lost.empty() && has_moved()); }

private:
  std::vector<LockLine> lines_of_kernel() const
  {
    if (m_detail == Detail::full) { return ours_of(sys::all_locks_checked().value_or(sys::LockList()).lines); }
    // A waiter takes a glance. When it shows no holder it may have missed the line, or have come just between two
    // holders: to look again is cheaper than to look at everybody.
    auto lines = ours_of(sys::all_locks().value_or(std::vector<LockLine>()));
    for (int look = 0; look < k_more_looks && !shows_holder(lines); ++look) {
      lines = ours_of(sys::all_locks().value_or(std::vector<LockLine>()));
    }
    return lines;
  }

  std::vector<LockLine> ours_of(std::vector<LockLine> lines) const
  {
    const auto is_other = [this](const LockLine& line) {
      return !is_on(line, m_subject.name) || !(is_queue_ticket(line) || m_subject.includes(line));
    };
    lines.erase(std::remove_if(lines.begin(), lines.end(), is_other), lines.end());
    return lines;
  }

  static bool shows_holder(const std::vector<LockLine>& lines)
  {
    return std::any_of(
      lines.begin(), lines.end(), [](const LockLine& line) { return !line.waits && !is_queue_ticket(line); });
  }

  void read_lines()
  {
    std::vector<LockLine> queue;
    for (const LockLine& line : lines_of_kernel()) {
      if (is_queue_ticket(line)) {
        queue.push_back(line);
      } else if (line.waits) {
        add_waiter(line, line.mode);
      } else {
        m_taken.push_back(line);
      }
    }
    sort_by_start(queue);
    for (const LockLine& line : queue) {
      if (!is_waiting(line.pid)) { add_waiter(line, std::nullopt); }
    }
  }

  // The first one in the queue waits for the lock itself.
  bool is_waiting(pid_t pid) const
  {
    return std::any_of(
      m_status.waiters.begin(), m_status.waiters.end(), [pid](const Waiter& waiter) { return waiter.pid == pid; });
  }

  // Another file may have the same name in the kernel's list; whose descriptors can be seen does not have ours then.
  bool is_subject(const LockLine& line) const
  {
    if (m_subject.is_unique() || line.pid <= 0) { return true; }
    const auto open = sys::descriptors_of(line.pid, m_subject.file.identity);
    return !open || !open->empty();
  }

  void add_waiter(const LockLine& line, std::optional<Mode> mode)
  {
    if (!is_subject(line)) { return; }
    Waiter waiter;
    waiter.pid = std::max(line.pid, 0);
    waiter.mode = mode;
    if (mode) { waiter.api = api_of(line); } // a place in the queue does not tell
    waiter.position = m_status.waiters.size() + 1;
    m_status.waiters.push_back(std::move(waiter));
  }

  // The descriptors of `pid` on our file that have a lock. EACCES: not ours to see.
  Result<void> look_into(pid_t pid)
  {
    if (contains(m_looked, pid)) { return {}; }
    m_looked.push_back(pid);
    const auto descriptors = sys::descriptors_of(pid, m_subject.file.identity);
    if (!descriptors) { return tl::unexpected(descriptors.error()); }
    for (const int fd : *descriptors) {
      const auto info = sys::descriptor_info(pid, fd);
      if (!info) { continue; } // closed meanwhile
      std::optional<int> slot;
      for (const LockLine& line : info->locks) {
        if (const auto found = slot_of(line)) { slot = found; }
      }
      for (const LockLine& line : info->locks) {
        if (m_subject.includes(line)) { m_sighted.push_back({pid, line, info->offset, slot}); }
      }
    }
    return {};
  }

  bool is_sighted(const LockLine& line) const
  {
    return std::any_of(
      m_sighted.begin(), m_sighted.end(), [&](const Sighting& sighting) { return is_same_lock(sighting.line, line); });
  }

  void look_at_takers()
  {
    for (const LockLine& line : m_taken) {
      if (m_detail == Detail::brief && holders_sighted() >= k_holders_in_brief) {
        m_more.push_back(line);
        continue;
      }
      if (line.pid > 0) {
        const auto looked = look_into(line.pid);
        const bool is_hidden = !looked && (looked.error().code != ESRCH || is_alive(line.pid));
        if (is_hidden) {
          m_hidden.push_back(line);
          continue;
        }
      }
      if (!is_sighted(line) && is_subject(line)) { m_lost.push_back(line); }
    }
  }

  std::size_t holders_sighted() const
  {
    std::vector<pid_t> pids;
    for (const Sighting& sighting : m_sighted) {
      if (!contains(pids, sighting.pid)) { pids.push_back(sighting.pid); }
    }
    return pids.size();
  }

  void look_at_everybody()
  {
    const auto processes = sys::all_processes();
    if (!processes) { return; }
    const nanoseconds limit = sys::steady_now() + k_longest_search;
    for (const sys::ProcessStatus& process : *processes) {
      if (m_detail == Detail::brief && sys::steady_now() >= limit) { return; }
      (void)look_into(process.pid);
    }
  }

  // One with locks of both kinds is one.
  void count_more()
  {
    std::vector<pid_t> counted;
    for (const LockLine& line : m_more) {
      if (is_sighted(line) || contains(m_looked, line.pid) || contains(counted, line.pid) || !is_subject(line)) {
        continue;
      }
      ++m_status.more_holders;
      if (line.pid > 0) { counted.push_back(line.pid); }
    }
  }

  // Whoever has these locks, we do not see them.
  void tell_lost()
  {
    for (const LockLine& line : m_hidden) { add_holder({line.pid, line, 0, {}}, Holder::Evidence::taker); }
    const auto is_found = [this](const LockLine& line) { return is_sighted(line); };
    m_lost.erase(std::remove_if(m_lost.begin(), m_lost.end(), is_found), m_lost.end());
    for (const LockLine& line : m_lost) {
      if (line.pid > 0) { add_holder({line.pid, line, 0, {}}, Holder::Evidence::gone); }
    }
  }

  // Of all who share a lock, the one that took it; when that is gone, those who did not inherit it from another one.
  void tell_sighted()
  {
    for (const Sighting& sighting : m_sighted) {
      if (sighting.pid == sighting.line.pid || (!has_taker(sighting.line) && !has_sharing_ancestor(sighting))) {
        add_holder(sighting, Holder::Evidence::descriptor);
      }
    }
  }

  bool has_taker(const LockLine& line) const { return has_lock(line.pid, line); }

  bool has_lock(pid_t pid, const LockLine& line) const
  {
    return std::any_of(m_sighted.begin(), m_sighted.end(),
      [&](const Sighting& other) { return other.pid == pid && is_same_lock(other.line, line); });
  }

  bool has_sharing_ancestor(const Sighting& sighting) const
  {
    auto status = sys::process_status(sighting.pid);
    while (status && status->parent > 0) {
      if (has_lock(status->parent, sighting.line)) { return true; }
      status = sys::process_status(status->parent);
    }
    return false;
  }

  void add_holder(const Sighting& sighting, Holder::Evidence evidence)
  {
    const pid_t pid = sighting.pid;
    const LockLine& line = sighting.line;
    m_told.push_back(line);
    const auto known = std::find_if(m_status.holders.begin(), m_status.holders.end(),
      [&](const Holder& holder) { return holder.pid == pid && holder.evidence == evidence; });
    if (known != m_status.holders.end()) { // with a lock of another kind
      if (line.mode == Mode::exclusive) { known->mode = Mode::exclusive; }
      return;
    }
    Holder holder;
    holder.pid = pid;
    holder.mode = line.mode;
    holder.api = api_of(line);
    holder.evidence = evidence;
    if (sighting.slot) { holder.slot = static_cast<unsigned>(*sighting.slot); }
    if (evidence != Holder::Evidence::gone) { describe(holder); }
    // Who inherited a lock may be younger than the lock, and so may a stranger with the taker's number. (The kernel
    // does not tell who took an ofd lock.)
    const bool is_heir = line.kind != LockLine::Kind::ofd && line.pid != pid;
    if (is_heir || evidence == Holder::Evidence::taker) { holder.since.reset(); }
    if (const auto moment = stamped_moment(sighting.offset, m_subject.file.size, m_now)) {
      holder.since = *moment;
      holder.since_kind = Holder::SinceKind::acquired;
    }
    m_status.holders.push_back(std::move(holder));
  }

  void describe(LockUser& user) const
  {
    if (user.pid <= 0) { return; }
    user.command = sys::command_line(user.pid).value_or(std::string());
    if (const auto owner = sys::user_of(user.pid)) { user.user = *owner; }
    const auto status = sys::process_status(user.pid);
    if (!status) { return; }
    user.since = m_now - (sys::elapsed_now() - sys::started(*status));
    if (user.command.empty()) { user.command = status->name; }
  }

  void settle_state()
  {
    const auto is_exclusive = [](const Holder& holder) { return holder.mode == Mode::exclusive; };
    if (!m_status.holders.empty()) {
      const bool exclusive = std::any_of(m_status.holders.begin(), m_status.holders.end(), is_exclusive);
      m_status.state = exclusive ? LockState::exclusive : LockState::shared;
    } else if (!m_lost.empty() && m_subject.is_unique()) { // otherwise these may be on another file: to ask will tell
      m_status.state = LockState::held;
    }
  }

  bool tells_too_much() const
  {
    return std::any_of(m_told.begin(), m_told.end(), [this](const LockLine& one) {
      return one.mode == Mode::exclusive && std::any_of(m_told.begin(), m_told.end(), [&](const LockLine& other) {
        return !is_same_lock(one, other) && exclude_each_other(one, other);
      });
    });
  }

  // Whether the locks that nobody has are gone. Those of the ofd kind all look the same.
  bool has_moved() const
  {
    const auto now = ours_of(sys::all_locks().value_or(std::vector<LockLine>()));
    return std::any_of(m_lost.begin(), m_lost.end(), [&](const LockLine& lost) {
      return lost.kind == LockLine::Kind::ofd ||
             std::none_of(now.begin(), now.end(), [&](const LockLine& line) { return is_same_lock(line, lost); });
    });
  }

  const Subject& m_subject;
  Detail m_detail;
  nanoseconds m_now;
  std::vector<LockLine> m_taken;  // in /proc/locks
  std::vector<LockLine> m_hidden; // of these, taken by somebody whom we may not look into
  std::vector<LockLine> m_lost;   // of these, not with the process that took it
  std::vector<LockLine> m_more;   // of these, not looked at
  std::vector<LockLine> m_told;   // of those who are told to be holders
  std::vector<pid_t> m_looked;
  std::vector<Sighting> m_sighted;
  LockStatus m_status;
};

} // namespace

std::optional<Subject> subject_of(const LockRequest& request)
{
  const auto path = path_of(request);
  if (!path) { return std::nullopt; }
  const auto file = request.fd ? sys::descriptor_status(sys::process_id(), *request.fd) : sys::stat(path->c_str());
  if (!file) { return std::nullopt; }
  return Subject{
    *file, name_in_locks(request, *path, *file), request.api != Api::ofd, request.api != Api::flock, request.range};
}

LockStatus look_at(const Subject& subject, Detail detail)
{
  for (int more = k_more_looks;; --more) {
    Look look(subject, detail);
    LockStatus seen = look.run();
    if (more == 0 || !look.is_outdated()) { return seen; }
  }
}

LockStatus look_among(const Subject& subject, const std::vector<pid_t>& processes)
{
  return Look(subject, Detail::brief).run_among(processes);
}

LockStatus look(const LockRequest& request)
{
  const auto subject = subject_of(request);
  return subject ? look_at(*subject, Detail::brief) : LockStatus();
}

} // namespace lockrun
