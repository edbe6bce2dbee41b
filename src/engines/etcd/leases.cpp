#include "engines/etcd/leases.hpp"

#include "engines/etcd/requests.hpp"
#include "sys/clock.hpp"

#include <algorithm>
#include <random>

namespace lockrun::engines::etcd {

using Kind = Trouble::Kind;

namespace {

std::int64_t any_lease_id()
{
  std::random_device device;
  return static_cast<std::int64_t>((std::uint64_t{device()} << 32 | device()) >> 1) | 1;
}

} // namespace

EtcdLease Leases::add()
{
  return m_leases.emplace_back(EtcdLease{any_lease_id(), sys::elapsed_now()});
}

Reply<void> Leases::grant(EtcdLease& fresh, milliseconds ttl, const Limits& limits)
{
  const auto answer = m_client.call(k_grant, grant_request(fresh.id, ttl), limits.with_late(fresh.id));
  if (!answer && answer.error().kind != Kind::exists) { return tl::unexpected(answer.error()); }
  fresh.time = lease_from(fresh.asked, answer ? ttl_in(answer->body) : ttl); // or a try whose answer got lost
  update(fresh);
  return {};
}

const EtcdLease* Leases::find(std::int64_t id) const
{
  const auto found =
    std::find_if(m_leases.begin(), m_leases.end(), [id](const EtcdLease& one) { return one.id == id; });
  return found == m_leases.end() ? nullptr : &*found;
}

void Leases::update(const EtcdLease& known)
{
  for (EtcdLease& one : m_leases) {
    if (one.id == known.id) { one = known; }
  }
}

Reply<void> Leases::revoke(std::int64_t id, const Limits& limits)
{
  const Json request = lease_request(id);
  m_client.recall(id, k_revoke, request); // what is late would bring lease and key back
  const auto revoked = m_client.call(k_revoke, request, limits);
  if (!revoked && revoked.error().kind != Kind::gone) { return tl::unexpected(revoked.error()); }
  std::erase_if(m_leases, [id](const EtcdLease& one) { return one.id == id; });
  return {};
}

} // namespace lockrun::engines::etcd
