#pragma once

#include "engines/session.hpp"
#include "sys/descriptor.hpp"
#include "sys/socket.hpp"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <openssl/types.h>
#include <tl/expected.hpp>

namespace lockrun::engines::etcd {

// Why a call to one server came to nothing.
struct Trouble {
  enum class Kind {
    interrupted,    // lockrun has something to say
    unreachable,    // no connection
    silent,         // no answer in time, or half of one
    unavailable,    // the server cannot do it at present (an election, no quorum)
    tls,            // no trust, or no TLS where we want it
    no_gateway,     // somebody answers, but not etcd's HTTP gateway
    authentication, // wrong or missing user, or one without the permission
    stale_token,    // the authentication has run out
    gone,           // the lease does not exist
    exists,         // the lease exists already
    refused,        // the server says no to what we ask
  };
  Kind kind = Kind::unreachable;
  std::string text;
};
template <class T>
using Reply = tl::expected<T, Trouble>;

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

// The addresses behind a host's name. Looked up in a thread of its own, because getaddrinfo(3) may block for longer
// than a lease lives.
Reply<std::vector<sys::SocketAddress>> resolve(const Endpoint& endpoint, const Attention& attention, Moment until);

// One connection, with or without TLS. Every call ends at its moment, or when lockrun says something.
class Wire {
public:
  // `context` is null without TLS.
  static Reply<Wire> connect(const sys::SocketAddress& address, const std::string& host, ::SSL_CTX* context,
    const Attention& attention, Moment until);

  Reply<void> send(std::string_view bytes, const Attention& attention, Moment until);

  // At least one byte; 0 at the end.
  Reply<std::size_t> receive(std::span<char> buffer, const Attention& attention, Moment until);

  // What is there already; none when that is nothing. For a stream whose descriptor is readable.
  Reply<std::optional<std::size_t>> receive_now(std::span<char> buffer);

  int descriptor() const noexcept { return m_socket.get(); }

private:
  explicit Wire(sys::Descriptor socket) noexcept : m_socket(std::move(socket)) {}
  Reply<void> begin_tls(const std::string& host, ::SSL_CTX* context, const Attention& attention, Moment until);
  Reply<short> wanted(int result, const char* deed) const; // the events that TLS waits for

  sys::Descriptor m_socket;
  std::unique_ptr<::SSL, FreeTls> m_tls;
};

} // namespace lockrun::engines::etcd
