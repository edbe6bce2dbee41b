#include "lock/ancestor_check.hpp"

#include "kernel/ancestry.hpp"
#include "lock/lock_file.hpp"
#include "sys/file.hpp"
#include "sys/process.hpp"

namespace lockrun {

Result<std::optional<Taken>, Error> AncestorCheck::begin()
{
  if (!kernel::asks_for_ancestors(m_request)) { return std::nullopt; }
  if (!may_look_later()) { return look(); }
  m_patience.look_at_tree = [this] { return look_while_waiting(); };
  return std::nullopt;
}

Result<std::optional<Taken>, Error> AncestorCheck::look()
{
  const TreeLocks tree = locks_of_tree(m_fd, m_request.fd);
  m_patience.tree_has_locks = tree.has_any;
  m_patience.look_at_tree = nullptr;
  auto taken = go_before_ancestors(tree);
  // What is in the way already would be found again each time.
  if (tree.may_change && m_in_the_way(m_wanted, tree) == nullptr) {
    m_patience.look_at_tree = [this] { return look_while_waiting(); };
  }
  return taken;
}

TreeLook AncestorCheck::look_while_waiting() const
{
  const TreeLocks tree = locks_of_tree(m_fd, m_request.fd);
  const AncestorLock* const lock = m_in_the_way(m_wanted, tree);
  return {lock == nullptr ? std::nullopt : std::optional(party_of(*lock)), tree.has_any, tree.may_change};
}

bool AncestorCheck::may_look_later() const
{
  // Callers that count as one of few waiters must not do so when an ancestor holds the lock.
  if (m_request.nested == Nested::run || m_request.max_waiters) { return false; }
  if (!m_patience.plan.detect_deadlock || m_patience.plan.is_likely_nested) { return false; }
  // The caller's and our copy of it, or ours and that for the queue.
  const std::size_t own = m_request.fd || has_own_queue_fd(m_request) ? 2 : 1;
  const auto file = sys::fstat(m_fd);
  if (!file) { return false; }
  const auto open = sys::descriptors_of(sys::process_id(), file->identity);
  return open && open->size() <= own;
}

Result<std::optional<Taken>, Error> AncestorCheck::go_before_ancestors(const TreeLocks& tree)
{
  if (!m_wanted.is_touched_by(tree)) { return std::nullopt; }
  auto attempt = tree.is_uncertain ? m_wanted.ask(Wait::never) : Result<sys::Attempt>(sys::Attempt::busy);
  if (attempt && *attempt == sys::Attempt::busy) {
    if (m_request.nested == Nested::run) { m_wanted.leave_out(tree); }
    attempt = m_wanted.ask(Wait::never);
  }
  if (!attempt) { return tl::unexpected(Error{Reason::lock_failed, m_request.path, attempt.error(), {}}); }
  if (*attempt == sys::Attempt::acquired) { return m_wanted.taken(); }
  const AncestorLock* const lock = m_wanted.in_the_way(tree);
  if (lock == nullptr) { return std::nullopt; }
  return tl::unexpected(Error{Reason::nested, m_request.path, {}, {party_of(*lock)}});
}

} // namespace lockrun
