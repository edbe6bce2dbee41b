#pragma once

#include "engines/net/trouble.hpp"
#include "sys/descriptor.hpp"
#include "sys/socket.hpp"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <openssl/types.h>
#include <poll.h>

namespace lockrun::engines::net {

struct TlsFiles {
  std::string authority; // who signs servers; empty: whom the system trusts
  std::string certificate;
  std::string key;
};

struct FreeTls {
  void operator()(::SSL_CTX* context) const noexcept;
  void operator()(::SSL* connection) const noexcept;
};
using TlsContext = std::unique_ptr<::SSL_CTX, FreeTls>;
Reply<TlsContext> make_tls_context(const TlsFiles& files);

// One connection, with or without TLS. Nothing here blocks: when something has to wait, events() says for what.
class Wire {
public:
  // Begins to connect; `context` is null without TLS.
  static Reply<Wire> begin(const sys::SocketAddress& address, const std::string& host, ::SSL_CTX* context);

  // Goes on with that: done once bytes can be sent.
  Reply<Progress> advance();

  // How many bytes went; 0: it has to wait.
  Reply<std::size_t> send(std::string_view bytes);

  // How many bytes came, 0 at the end; none: it has to wait. With room for 16 KiB, which is what TLS has in one piece,
  // nothing is left that the descriptor does not show.
  Reply<std::optional<std::size_t>> receive(std::span<char> buffer);

  int descriptor() const noexcept { return m_socket.get(); }
  short events() const noexcept { return m_events; }

private:
  explicit Wire(sys::Descriptor socket) noexcept;
  Reply<void> begin_tls(const std::string& host, ::SSL_CTX* context);
  Reply<short> wanted(int result, const char* deed) const; // the events that TLS waits for

  sys::Descriptor m_socket;
  std::unique_ptr<::SSL, FreeTls> m_tls;
  bool m_is_connected = false;
  bool m_is_ready = false;
  short m_events = POLLOUT;
};

} // namespace lockrun::engines::net
