#pragma once

#include "engines/etcd/client.hpp"
#include "engines/lease.hpp"

#include <cstdint>
#include <vector>

namespace lockrun::engines::etcd {

// A lease that we have asked for.
struct EtcdLease {
  std::int64_t id = 0;   // 0: none
  Instant asked{0};      // before that was first sent: whichever try was granted, it lives since then at the earliest
  std::int64_t term = 0; // in which it was granted; 0: unknown
  LeaseTime time{};
};

// All leases that we have asked for and that may be there.
class Leases {
public:
  explicit Leases(Client& client) : m_client(client) {}

  // One with an ID of ours that is to be asked for now.
  EtcdLease add();

  // Can be repeated: what counts is when this ID was asked for first.
  Reply<void> grant(EtcdLease& fresh, milliseconds ttl, const Limits& limits);

  const EtcdLease* find(std::int64_t id) const; // null: none of ours
  const std::vector<EtcdLease>& all() const noexcept { return m_leases; }
  void update(const EtcdLease& known);

  // Also takes back what was sent for it and has no answer yet.
  Reply<void> revoke(std::int64_t id, const Limits& limits);

private:
  Client& m_client;
  std::vector<EtcdLease> m_leases;
};

} // namespace lockrun::engines::etcd
