#include "engines/etcd/failure.hpp"

#include <sysexits.h>

#include <fmt/format.h>

namespace lockrun::engines::etcd {

using Kind = net::Trouble::Kind;

Failure failure_from(const net::Trouble& trouble)
{
  switch (trouble.kind) {
  case Kind::interrupted:
    return interruption();
  case Kind::tls:
    return {EX_UNAVAILABLE, "tls", fmt::format("no secure connection to etcd: {}", trouble.text)};
  case Kind::wrong_service:
    return {EX_UNAVAILABLE, "refused", fmt::format("cannot talk to etcd: {}", trouble.text), {},
      "lockrun uses etcd's HTTP gateway, which the server's --enable-grpc-gateway=false switches off"};
  case Kind::other_cluster:
    return {EX_CONFIG, "refused", fmt::format("cannot use etcd: {}", trouble.text), {},
      "name the members of one cluster: a lock in one is not held in another"};
  case Kind::authentication:
  case Kind::stale_token:
    return {EX_NOPERM, "authentication", fmt::format("etcd does not let us: {}", trouble.text)};
  case Kind::gone:
  case Kind::exists:
  case Kind::refused:
    return {EX_UNAVAILABLE, "refused", fmt::format("etcd refuses: {}", trouble.text)};
  case Kind::unreachable:
  case Kind::silent:
  case Kind::unavailable:
    break;
  }
  return {EX_UNAVAILABLE, "unreachable", fmt::format("cannot reach etcd: {}", trouble.text)};
}

tl::unexpected<Failure> failed(const net::Trouble& trouble)
{
  return tl::unexpected(failure_from(trouble));
}

} // namespace lockrun::engines::etcd
