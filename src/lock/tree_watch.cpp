#include "lock/tree_watch.hpp"

#include "sys/clock.hpp"

#include <algorithm>
#include <utility>

namespace lockrun {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr nanoseconds k_before_looking = milliseconds(200);
// A look takes less than a millisecond as a rule. What it finds does not come in time if the machine is busy.
constexpr nanoseconds k_before_deadline = milliseconds(10);
// While it is the turn of others: each time twice as late, until we look all the same, after 6 s; whoever has the turn
// may have been stopped.
constexpr nanoseconds k_first_try_again = milliseconds(100);
constexpr nanoseconds k_last_try_again = milliseconds(3200);
// For how much longer than our look nobody else may look.
constexpr int k_rest_per_look = 50;
// Before another look at a tree that may change; each time twice as long.
constexpr nanoseconds k_longest_pause = std::chrono::seconds(60);

Deadline last_look(const Patience& patience)
{
  return patience.deadline ? Deadline(*patience.deadline - k_before_deadline) : std::nullopt;
}

} // namespace

nanoseconds TreeWatch::first_look(const Patience& patience, nanoseconds began)
{
  const nanoseconds first = began + k_before_looking;
  return patience.look_at_tree ? *earlier(first, last_look(patience)) : first;
}

TreeWatch::TreeWatch(const Patience& patience, nanoseconds began)
  : m_patience(patience), m_has_looked(!patience.look_at_tree), m_next_try(k_first_try_again)
{
  if (!patience.plan.detect_deadlock) { return; }
  m_next = patience.tree_has_locks ? first_look(patience, began) : began + m_search.pause();
}

std::optional<Error> TreeWatch::look()
{
  if (m_turn) {
    m_turn.reset();
    m_next = earlier(m_next_search, m_next_tree);
    return std::nullopt;
  }
  const nanoseconds now = sys::steady_now();
  if (m_has_looked && !(m_next_tree && now >= *m_next_tree)) { return search(); }
  m_turn = LookTurn::at_tree();
  const Deadline last = last_look(m_patience);
  const bool is_last_chance = m_next_try > k_last_try_again || (last && now >= *last);
  if (!m_turn && !is_last_chance) {
    m_next = earlier(now + std::exchange(m_next_try, 2 * m_next_try), last);
    return std::nullopt;
  }
  const nanoseconds before = sys::thread_time();
  TreeLook tree = m_patience.look_at_tree();
  const nanoseconds rest = k_rest_per_look * (sys::thread_time() - before);
  if (tree.in_the_way) { return Error{Reason::nested, {}, {}, {std::move(*tree.in_the_way)}}; }
  m_has_looked = true;
  m_next_try = k_first_try_again;
  m_next_tree.reset();
  if (tree.may_change) { m_next_tree = now + std::exchange(m_pause, std::min(2 * m_pause, k_longest_pause)); }
  m_next_search = m_next = earlier(now + m_search.pause(), m_next_tree); // nearly never: we hold nothing
  auto finding = tree.has_any ? search() : std::nullopt;
  if (m_turn) { m_next = earlier(m_next, now + rest); }
  return finding;
}

std::optional<Error> TreeWatch::search()
{
  auto circle = m_search.look();
  m_next_search = sys::steady_now() + m_search.pause();
  m_next = earlier(m_next_search, m_next_tree);
  if (!circle) { return std::nullopt; }
  return Error{Reason::deadlock, {}, {}, std::move(*circle)};
}

} // namespace lockrun
