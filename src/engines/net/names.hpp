#pragma once

#include "engines/net/trouble.hpp"
#include "engines/url.hpp"
#include "sys/descriptor.hpp"
#include "sys/socket.hpp"

#include <memory>
#include <optional>
#include <vector>

namespace lockrun::engines::net {

// A descriptor that is readable once a look-up has ended; shared by all of them.
using Bell = std::shared_ptr<const sys::Descriptor>;
Bell make_bell();
void silence(const Bell& bell);

bool is_address(const std::string& host);

// The addresses of one endpoint. Known ones stay until a look-up has found others.
//
// Names are looked up by getaddrinfo(3) in a thread, because it may block for longer than a lease lives. A resolver
// that does not block would need no thread, and could pass over a silent name server sooner than after a second, the
// least that resolv.conf(5) allows. But c-ares finds only what files and DNS know. Other programs on this host find
// names by further modules of nsswitch.conf(5), such as mDNS, LDAP or its containers, and a lock is no good if two
// programs take one name for two servers. Of the options in resolv.conf(5) c-ares 1.18 ignores most, and it waits three
// times as long for an answer about IPv6 that never comes. The price of the thread is bounded: there are two for each
// name at most, and the end of the program does not wait for them.
class Host {
public:
  Host(Endpoint endpoint, Bell bell) : m_endpoint(std::move(endpoint)), m_bell(std::move(bell)) {}

  const Endpoint& endpoint() const noexcept { return m_endpoint; }

  // Starts a look-up, which goes on until it ends, however long nobody asks for it. If one is under way and there are
  // no addresses yet, IPv4 alone is looked up in addition: getaddrinfo(3) may have those addresses already and wait for
  // an answer about IPv6 that never comes.
  void look_up();
  bool is_being_looked_up() const noexcept { return m_look_up != nullptr; }

  // Whether a look-up has ended since, or has found the first addresses. addresses() are what it has found; if it
  // failed trouble() says why.
  bool take();
  const std::optional<Trouble>& trouble() const noexcept { return m_trouble; }

  // Those that worked come first, the others in the order of getaddrinfo(3) with families alternating (RFC 8305).
  const std::vector<sys::SocketAddress>& addresses() const noexcept { return m_addresses; }
  void prefer(const sys::SocketAddress& address);

private:
  struct LookUp;
  struct Found {
    int error = 0;
    std::vector<sys::SocketAddress> addresses;
  };
  struct Task;
  static Found find(const Endpoint& endpoint, int family, int flags);
  static void* run(void* task);
  Result<void> start(int family);
  void accept(const Found& found);

  Endpoint m_endpoint;
  Bell m_bell;
  std::shared_ptr<LookUp> m_look_up; // under way
  std::vector<sys::SocketAddress> m_addresses;
  std::optional<Trouble> m_trouble;
};

} // namespace lockrun::engines::net
