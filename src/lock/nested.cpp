#include "lock/nested.hpp"

#include "kernel/ancestry.hpp"
#include "lock/lock_line.hpp"
#include "lock/look_turn.hpp"
#include "sys/file.hpp"
#include "sys/mount.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <string_view>
#include <utility>

namespace lockrun {
namespace {

using sys::LockLine;

bool contains(const std::vector<pid_t>& pids, pid_t pid)
{
  return std::find(pids.begin(), pids.end(), pid) != pids.end();
}

// From the environment: which process is asked whether it will free a lock; what it answers decides.
pid_t innermost_lockrun()
{
  const char* const text = sys::environment("LOCKRUN_PID");
  pid_t pid = 0;
  if (text != nullptr) { (void)std::from_chars(text, text + std::string_view(text).size(), pid); }
  return pid;
}

class Look {
public:
  Look(const sys::Descriptor& fd, std::optional<int> callers, const sys::FileIdentity& identity)
    : m_fd(fd), m_callers(callers), m_identity(identity), m_us(sys::process_id())
  {}

  TreeLocks run()
  {
    walk();
    look_at_hidden();
    leave_out_what_others_free();
    return std::move(m_tree);
  }

private:
  void walk()
  {
    std::optional<sys::ProcessStatus> child;
    for (pid_t pid = m_us; pid > 0;) {
      const auto status = sys::process_status(pid);
      // The parent has ended since, and another process has got its number.
      if (child && status && status->start > child->start) { return; }
      if (child && status && kernel::is_adopted(*child, *status)) {
        m_adopter = pid;
        m_tree.may_change = true;
        return;
      }
      m_walked.push_back(pid);
      const auto lines = lines_of(pid);
      if (!lines) {
        const bool is_hidden = lines.error().code != ESRCH && !(status && is_init(*status));
        if (is_hidden) { m_hidden.push_back(pid); }
      } else {
        for (const LockLine& line : *lines) { m_tree.held.push_back({pid, line}); }
      }
      if (!status) { return; }
      pid = status->parent;
      child = *status;
    }
  }

  // The locks that the descriptors of one process have on the file. EACCES when it is not ours to look into.
  Result<std::vector<LockLine>> lines_of(pid_t pid)
  {
    const auto descriptors = sys::descriptors_of(pid);
    if (!descriptors) { return tl::unexpected(descriptors.error()); }
    std::vector<LockLine> found;
    for (const int fd : *descriptors) {
      const auto status = sys::descriptor_status(pid, fd);
      // Listing them may be allowed where looking at them is not (proc_pid_fd(5)), and then none of them can be seen.
      if (!status && status.error().code == EACCES) { return tl::unexpected(status.error()); }
      if (!status) { continue; } // closed meanwhile
      const bool is_it = status->identity == m_identity;
      if (!is_it && (m_tree.has_any || !sys::may_be_locked(status->type))) { continue; }
      const auto lines = sys::locks_of(pid, fd).value_or(std::vector<LockLine>());
      m_tree.has_any = m_tree.has_any || (!std::all_of(lines.begin(), lines.end(), is_of_waiter) &&
                                           !LookTurn::may_be_on(status->identity));
      if (!is_it) { continue; }
      std::copy_if(lines.begin(), lines.end(), std::back_inserter(found),
        [&](const LockLine& line) { return !line.waits && !is_our_own(pid, fd, line); });
    }
    return found;
  }

  // Whether it is a lock of the open file description that we are about to lock.
  bool is_our_own(pid_t pid, int fd, const LockLine& line) const
  {
    if (is_of_process(line)) { return false; }
    if (pid == m_us && fd == m_fd.get()) { return true; }
    if (!m_callers) { return false; } // we have opened it just now
    const auto compared = sys::compare_descriptions(m_us, m_fd.get(), pid, fd);
    if (compared) { return *compared == sys::Description::shared; }
    const auto own = sys::locks_of(m_us, m_fd.get()).value_or(std::vector<LockLine>());
    return std::any_of(own.begin(), own.end(), [&](const LockLine& other) { return is_same_lock(line, other); });
  }

  // The locks that ancestors took whom we may not look into. The taker's number is all that /proc/locks shows; an
  // ancestor that lives has kept its number.
  void look_at_hidden()
  {
    if (m_hidden.empty()) { return; }
    const auto all = sys::all_locks_checked().value_or(sys::LockList()).lines;
    std::optional<sys::FileIdentity> name;
    for (const LockLine& line : all) {
      if (line.waits || !contains(m_hidden, line.pid) || is_of_waiter(line) || LookTurn::may_be_on(line)) { continue; }
      m_tree.has_any = true;
      if (!name) { name = sys::identity_in_locks(m_fd.get(), m_identity); }
      if (!is_on(line, *name)) { continue; }
      const bool is_unique = name->device == m_identity.device;
      if (!is_unique && shows_two_files(all, line)) { continue; }
      m_tree.is_uncertain = m_tree.is_uncertain || !is_unique;
      m_tree.held.push_back({line.pid, line});
    }
  }

  // Whether the file's name in the kernel's list is that of several: nobody could have both of these otherwise.
  static bool shows_two_files(const std::vector<LockLine>& all, const LockLine& line)
  {
    return std::any_of(
      all.begin(), all.end(), [&](const LockLine& other) { return &other != &line && blocks(other, line); });
  }

  void leave_out_what_others_free()
  {
    if (m_tree.held.empty()) { return; }
    std::vector<pid_t> others{m_adopter, innermost_lockrun()};
    for (const AncestorLock& lock : m_tree.held) {
      if (lock.line.kind == LockLine::Kind::flock) { others.push_back(lock.line.pid); }
    }
    std::sort(others.begin(), others.end());
    others.erase(std::unique(others.begin(), others.end()), others.end());
    const bool has_any = std::exchange(m_tree.has_any, true); // what these have on other files is theirs
    for (const pid_t pid : others) {
      if (pid <= 0 || contains(m_walked, pid)) { continue; }
      const auto status = sys::process_status(pid);
      if (!status || !kernel::frees_its_lock(*status)) { continue; }
      const auto lines = lines_of(pid);
      const auto is_freed = [&](const AncestorLock& lock) {
        if (!lines) { return lines.error().code != ESRCH && lock.line.pid == pid; }
        return std::any_of(
          lines->begin(), lines->end(), [&](const LockLine& line) { return is_same_lock(line, lock.line); });
      };
      auto& held = m_tree.held;
      const auto freed = std::remove_if(held.begin(), held.end(), is_freed);
      m_tree.may_change = m_tree.may_change || freed != held.end();
      held.erase(freed, held.end());
    }
    m_tree.has_any = has_any;
  }

  const sys::Descriptor& m_fd;
  std::optional<int> m_callers;
  sys::FileIdentity m_identity;
  pid_t m_us;
  pid_t m_adopter = 0;
  std::vector<pid_t> m_walked;
  std::vector<pid_t> m_hidden; // of these, not ours to look into
  TreeLocks m_tree;
};

} // namespace

TreeLocks locks_of_tree(const sys::Descriptor& fd, std::optional<int> callers)
{
  const auto file = sys::fstat(fd);
  if (!file || !sys::check_proc()) { return {}; }
  return Look(fd, callers, file->identity).run();
}

const AncestorLock* in_the_way(const TreeLocks& tree, const LockLine& wanted)
{
  const AncestorLock* found = nullptr;
  for (const AncestorLock& lock : tree.held) {
    if (exclude_each_other(lock.line, wanted)) { found = &lock; }
  }
  return found;
}

std::vector<Range> uncovered(const TreeLocks& tree, const LockLine& wanted)
{
  std::vector<LockLine> held;
  held.reserve(tree.held.size());
  for (const AncestorLock& lock : tree.held) { held.push_back(lock.line); }
  return uncovered(held, wanted);
}

Party party_of(const AncestorLock& lock)
{
  return {lock.holder, sys::command_line(lock.holder).value_or(std::string()), {}};
}

} // namespace lockrun
