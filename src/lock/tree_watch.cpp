#include "lock/tree_watch.hpp"

#include "sys/clock.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <utility>

namespace lockrun {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr nanoseconds k_before_looking = milliseconds(200);
// While it is the turn of others: each time twice as late, until we look all the same, after 6 s; whoever has the turn
// may have been stopped.
constexpr nanoseconds k_first_try_again = milliseconds(100);
constexpr nanoseconds k_last_try_again = milliseconds(3200);
// For how much longer than our look nobody else may look.
constexpr int k_rest_per_look = 50;

} // namespace

TreeWatch::TreeWatch(const Patience& patience, nanoseconds began)
  : m_patience(patience), m_has_looked(!patience.look_at_tree), m_next_try(k_first_try_again)
{
  if (!patience.plan.detect_deadlock) { return; }
  m_next = began + (patience.tree_has_locks ? k_before_looking : m_search.pause());
  if (!m_has_looked) { m_next = earlier(m_next, patience.deadline); }
}

std::optional<Error> TreeWatch::look()
{
  if (m_turn) {
    m_turn.reset();
    m_next = m_next_search;
    return std::nullopt;
  }
  if (m_has_looked) { return search(); }
  const nanoseconds now = sys::steady_now();
  m_turn = LookTurn::at_tree();
  const bool is_last_chance = m_next_try > k_last_try_again || (m_patience.deadline && now >= *m_patience.deadline);
  if (!m_turn && !is_last_chance) {
    m_next = earlier(now + std::exchange(m_next_try, 2 * m_next_try), m_patience.deadline);
    return std::nullopt;
  }
  const nanoseconds before = sys::thread_time();
  TreeLocks tree = m_patience.look_at_tree();
  const nanoseconds rest = k_rest_per_look * (sys::thread_time() - before);
  // What only we have was not inherited: a shared lock, when we wait for it to become exclusive.
  if (tree.held && tree.held->holder.pid != sys::process_id()) {
    return Error{Reason::nested, {}, {}, {std::move(tree.held->holder)}};
  }
  m_has_looked = true;
  m_next = now + m_search.pause(); // nearly never: we hold nothing
  auto finding = tree.has_any ? search() : std::nullopt;
  m_next_search = m_next;
  if (m_turn) { m_next = earlier(m_next, now + rest); }
  return finding;
}

std::optional<Error> TreeWatch::search()
{
  auto circle = m_search.look();
  m_next = sys::steady_now() + m_search.pause();
  if (!circle) { return std::nullopt; }
  return Error{Reason::deadlock, {}, {}, std::move(*circle)};
}

} // namespace lockrun
