#include "engines/etcd/epoch.hpp"

#include "engines/etcd/failure.hpp"
#include "engines/etcd/requests.hpp"

namespace lockrun::engines::etcd {

using Kind = Trouble::Kind;

void Epoch::take(const Reply<Answer>& status, const Reply<Answer>& marker)
{
  m_position = status ? log_position_of(status->body) : LogPosition{};
  if (marker) { m_marker = marker_of(marker->body); }
  if (!marker && marker.error().kind == Kind::authentication) { m_text.emplace(); } // we may not read it
}

Result<void, Failure> Epoch::learn(const Limits& limits)
{
  if (!m_text && !m_marker) {
    const auto status = m_client.call(k_status, Json::object(), limits);
    const auto marker = m_client.call(k_range, marker_request(), limits);
    take(status, marker);
    if (!m_text && !m_marker) { return failed(marker.error()); }
  }
  if (m_text) { return {}; }
  if (m_marker->epoch.empty() || !is_continued(*m_marker, m_position)) {
    auto replaced = replace_marker(limits);
    if (!replaced) { return replaced; }
  }
  m_text = m_marker->epoch.empty() ? std::string() : m_client.cluster() + '-' + m_marker->epoch;
  return {};
}

// There is none, or it is that of an earlier history.
Result<void, Failure> Epoch::replace_marker(const Limits& limits)
{
  const Marker fresh = new_marker(m_position);
  const auto answer = m_client.call(k_txn, marker_change(fresh, *m_marker), limits);
  if (!answer && answer.error().kind != Kind::authentication) { return failed(answer.error()); }
  m_marker = Marker{}; // or we may not write it
  if (!answer) { return {}; }
  const bool is_ours = field(answer->body, "succeeded") == true;
  m_marker =
    is_ours ? fresh : marker_of(found_last(answer->body)); // another caller was faster, or an earlier try of ours
  if (m_marker->epoch.empty()) { m_marker = Marker{}; }
  return {};
}

} // namespace lockrun::engines::etcd
