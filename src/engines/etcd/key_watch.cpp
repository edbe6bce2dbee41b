#include "engines/etcd/key_watch.hpp"

#include "sys/clock.hpp"

#include <algorithm>
#include <utility>

namespace lockrun::engines::etcd {
namespace {

constexpr milliseconds k_shortest_pause{200};

} // namespace

Reply<void> KeyWatch::open(
  const std::string& key, const std::vector<Json>& requests, milliseconds ttl, const Limits& limits)
{
  if ((is_current() && m_key == key) || m_due) { return {}; }
  m_watch.reset();
  auto opened = m_client.watch(requests, limits);
  if (opened) {
    m_watch = std::move(*opened);
    m_key = key;
    m_endpoint = m_client.endpoint();
    return {};
  }
  if (opened.error().kind == Trouble::Kind::interrupted) { return tl::unexpected(opened.error()); }
  put_off(ttl);
  return {};
}

// A server that refuses each watch, or ends it at once, is not to be asked without end.
void KeyWatch::put_off(milliseconds ttl)
{
  m_watch.reset();
  m_due = sys::elapsed_now() + m_pauses.next(std::max(ttl / 3, k_shortest_pause));
}

bool KeyWatch::has_news(milliseconds ttl)
{
  if (m_due && sys::elapsed_now() >= *m_due) {
    m_due.reset();
    return true;
  }
  if (!m_watch) { return false; }
  const Watch::News news = m_watch->take();
  if (news.has_events) { m_pauses.reset(); }
  if (news.is_over) { put_off(ttl); }
  return news.has_events;
}

std::vector<::pollfd> KeyWatch::interests() const
{
  if (!m_watch) { return {}; }
  return {{m_watch->descriptor(), POLLIN, 0}};
}

} // namespace lockrun::engines::etcd
