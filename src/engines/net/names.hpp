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

// The addresses of one endpoint. They are looked up in a thread, because getaddrinfo(3) may block for longer than a
// lease lives: it alone knows all that nsswitch.conf(5) may name. Known ones stay until a look-up has found others.
class Host {
public:
  Host(Endpoint endpoint, Bell bell) : m_endpoint(std::move(endpoint)), m_bell(std::move(bell)) {}

  const Endpoint& endpoint() const noexcept { return m_endpoint; }

  // Starts a look-up, unless one is under way: it goes on until it ends, however long nobody asks for it.
  void look_up();
  bool is_being_looked_up() const noexcept { return m_look_up != nullptr; }

  // Whether a look-up has ended since. addresses() are what it has found; if it failed trouble() says why.
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
  static Found find(const std::string& host, const std::string& port, int flags);
  static void* run(void* look_up);
  void accept(const Found& found);

  Endpoint m_endpoint;
  Bell m_bell;
  std::shared_ptr<LookUp> m_look_up; // under way
  std::vector<sys::SocketAddress> m_addresses;
  std::optional<Trouble> m_trouble;
};

} // namespace lockrun::engines::net
