#include "engines/etcd/wire.hpp"

#include "sys/channel.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace lockrun::engines::etcd {
namespace {

using Kind = Trouble::Kind;
using Wrong = tl::unexpected<Trouble>;

Wrong wrong(Kind kind, std::string text)
{
  return Wrong(Trouble{kind, std::move(text)});
}

std::string errno_words(int code)
{
  const char* const words = ::strerrordesc_np(code);
  const char* const name = ::strerrorname_np(code);
  return words != nullptr && name != nullptr ? fmt::format("{} ({})", words, name) : fmt::format("error {}", code);
}

Wrong wrong(Kind kind, int code)
{
  return wrong(kind, errno_words(code));
}

// The oldest of OpenSSL's complaints, which is the cause of the others.
std::string tls_complaint()
{
  const unsigned long code = ::ERR_get_error();
  ::ERR_clear_error();
  if (ERR_SYSTEM_ERROR(code)) { return errno_words(ERR_GET_REASON(code)); }
  const char* const words = code == 0 ? nullptr : ::ERR_reason_error_string(code);
  return words != nullptr ? words : "the connection was closed";
}

Reply<void> await(int descriptor, short events, const Attention& attention, Moment until)
{
  switch (attention.wait(descriptor, events, until)) {
  case Attention::Woken::by_descriptor:
    return {};
  case Attention::Woken::by_lockrun:
    return wrong(Kind::interrupted, std::string());
  case Attention::Woken::by_time:
    break;
  }
  return wrong(Kind::silent, "no answer in time");
}

bool is_address(const std::string& host)
{
  unsigned char bytes[sizeof(::in6_addr)];
  return ::inet_pton(AF_INET, host.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

struct Found {
  int error = 0;
  std::vector<sys::SocketAddress> addresses;
};

Found look_up(const std::string& host, const std::string& port, int flags)
{
  ::addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  ::addrinfo* list = nullptr;
  Found found;
  found.error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &list);
  if (found.error != 0) { return found; }
  for (const ::addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    sys::SocketAddress& address = found.addresses.emplace_back();
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.size = entry->ai_addrlen;
  }
  ::freeaddrinfo(list);
  return found;
}

// What the thread that looks up a name shares with the one that may have lost patience.
struct LookUp {
  sys::Descriptor done{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  Found found;
};

// Instead of OpenSSL's own, which would ask on the terminal or, without one, on standard input: that is lockrun's
// socket. It is a pem_password_cb.
int refuse_pass_phrase(char* /*room*/, int /*size*/, int /*is_for_writing*/, void* was_asked)
{
  if (was_asked != nullptr) { *static_cast<bool*>(was_asked) = true; }
  return -1;
}

} // namespace

void FreeTls::operator()(::SSL_CTX* context) const noexcept
{
  ::SSL_CTX_free(context);
}

void FreeTls::operator()(::SSL* connection) const noexcept
{
  ::SSL_free(connection);
}

Reply<TlsContext> make_tls_context(const TlsFiles& files)
{
  TlsContext context(::SSL_CTX_new(::TLS_client_method()));
  if (!context) { return wrong(Kind::tls, tls_complaint()); }
  ::SSL_CTX* const raw = context.get();
  ::SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  ::SSL_CTX_set_verify(raw, SSL_VERIFY_PEER, nullptr);
  ::SSL_CTX_set_mode(raw, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  bool needs_pass_phrase = false;
  ::SSL_CTX_set_default_passwd_cb(raw, refuse_pass_phrase);
  ::SSL_CTX_set_default_passwd_cb_userdata(raw, &needs_pass_phrase);
  const auto unusable = [&needs_pass_phrase](const char* what, const std::string& file) {
    if (needs_pass_phrase) {
      ::ERR_clear_error();
      return wrong(Kind::tls, fmt::format("cannot use the {} file '{}': it needs a pass phrase", what, file));
    }
    return wrong(Kind::tls, fmt::format("cannot use the {} file '{}': {}", what, file, tls_complaint()));
  };
  if (files.authority.empty()) {
    if (::SSL_CTX_set_default_verify_paths(raw) != 1) { return wrong(Kind::tls, tls_complaint()); }
  } else if (::SSL_CTX_load_verify_file(raw, files.authority.c_str()) != 1) {
    return unusable("cacert", files.authority);
  }
  if (!files.certificate.empty() && ::SSL_CTX_use_certificate_chain_file(raw, files.certificate.c_str()) != 1) {
    return unusable("cert", files.certificate);
  }
  if (!files.key.empty() && ::SSL_CTX_use_PrivateKey_file(raw, files.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    return unusable("key", files.key);
  }
  if (!files.key.empty() && ::SSL_CTX_check_private_key(raw) != 1) { return unusable("key", files.key); }
  ::SSL_CTX_set_default_passwd_cb_userdata(raw, nullptr); // all files have been read
  return context;
}

Reply<std::vector<sys::SocketAddress>> resolve(const Endpoint& endpoint, const Attention& attention, Moment until)
{
  Found found;
  if (is_address(endpoint.host)) {
    found = look_up(endpoint.host, endpoint.port, AI_NUMERICHOST);
  } else {
    const auto shared = std::make_shared<LookUp>();
    std::thread([shared, endpoint] {
      shared->found = look_up(endpoint.host, endpoint.port, AI_ADDRCONFIG);
      (void)::eventfd_write(shared->done.get(), 1); // only fails after 2^64 of them
    }).detach();
    const auto answered = await(shared->done.get(), POLLIN, attention, until);
    if (!answered) {
      return answered.error().kind == Kind::interrupted ? Wrong(answered.error())
                                                        : wrong(Kind::unreachable, "its name is not resolved in time");
    }
    ::eventfd_t ignored = 0;
    (void)::eventfd_read(shared->done.get(), &ignored);
    found = shared->found;
  }
  if (found.error != 0) { return wrong(Kind::unreachable, ::gai_strerror(found.error)); }
  return found.addresses;
}

Reply<Wire> Wire::connect(const sys::SocketAddress& address, const std::string& host, ::SSL_CTX* context,
  const Attention& attention, Moment until)
{
  auto socket = sys::connect(address);
  if (!socket) { return wrong(Kind::unreachable, socket.error().code); }
  Wire wire(std::move(*socket));
  const auto answered = await(wire.descriptor(), POLLOUT, attention, until);
  if (!answered) { return Wrong(answered.error()); }
  const auto code = sys::connection_error(wire.m_socket);
  if (!code) { return wrong(Kind::unreachable, code.error().code); }
  if (*code != 0) { return wrong(Kind::unreachable, *code); }
  if (context == nullptr) { return wire; }
  const auto begun = wire.begin_tls(host, context, attention, until);
  if (!begun) { return Wrong(begun.error()); }
  return wire;
}

Reply<void> Wire::begin_tls(const std::string& host, ::SSL_CTX* context, const Attention& attention, Moment until)
{
  m_tls.reset(::SSL_new(context));
  if (!m_tls || ::SSL_set_fd(m_tls.get(), descriptor()) != 1) { return wrong(Kind::tls, tls_complaint()); }
  const bool named =
    is_address(host)
      ? ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(m_tls.get()), host.c_str()) == 1
      : ::SSL_set1_host(m_tls.get(), host.c_str()) == 1 && ::SSL_set_tlsext_host_name(m_tls.get(), host.c_str()) == 1;
  if (!named) { return wrong(Kind::tls, tls_complaint()); }
  for (;;) {
    const int result = ::SSL_connect(m_tls.get());
    if (result == 1) { return {}; }
    const auto events = wanted(result, "no TLS");
    if (!events) { return Wrong(events.error()); }
    const auto ready = await(descriptor(), *events, attention, until);
    if (!ready) { return Wrong(ready.error()); }
  }
}

Reply<short> Wire::wanted(int result, const char* deed) const
{
  const int code = errno;
  switch (::SSL_get_error(m_tls.get(), result)) {
  case SSL_ERROR_WANT_READ:
    return POLLIN;
  case SSL_ERROR_WANT_WRITE:
    return POLLOUT;
  case SSL_ERROR_SYSCALL:
    if (code != 0) { return wrong(Kind::unreachable, code); }
    break;
  default:
    break;
  }
  const long verdict = ::SSL_get_verify_result(m_tls.get());
  if (verdict != X509_V_OK) {
    ::ERR_clear_error();
    return wrong(
      Kind::tls, fmt::format("its certificate is not trusted: {}", ::X509_verify_cert_error_string(verdict)));
  }
  return wrong(Kind::tls, fmt::format("{}: {}", deed, tls_complaint()));
}

Reply<void> Wire::send(std::string_view bytes, const Attention& attention, Moment until)
{
  while (!bytes.empty()) {
    short events = POLLOUT;
    std::size_t sent = 0;
    if (m_tls) {
      errno = 0;
      const int result = ::SSL_write_ex(m_tls.get(), bytes.data(), bytes.size(), &sent);
      if (result != 1) {
        const auto wants = wanted(result, "cannot send");
        if (!wants) { return Wrong(wants.error()); }
        events = *wants;
      }
    } else {
      const auto result = sys::send(m_socket, std::as_bytes(std::span(bytes)));
      if (!result && result.error().code != EAGAIN) { return wrong(Kind::unreachable, result.error().code); }
      sent = result.value_or(0);
    }
    bytes.remove_prefix(sent);
    if (sent != 0) { continue; }
    const auto ready = await(descriptor(), events, attention, until);
    if (!ready) { return Wrong(ready.error()); }
  }
  return {};
}

Reply<std::optional<std::size_t>> Wire::receive_now(std::span<char> buffer)
{
  if (m_tls) {
    std::size_t count = 0;
    errno = 0;
    const int result = ::SSL_read_ex(m_tls.get(), buffer.data(), buffer.size(), &count);
    if (result == 1) { return count; }
    if (::SSL_get_error(m_tls.get(), result) == SSL_ERROR_ZERO_RETURN) { return std::size_t{0}; }
    const auto wants = wanted(result, "cannot receive");
    if (!wants) { return Wrong(wants.error()); }
    return std::nullopt;
  }
  const auto result = sys::receive(m_socket, std::as_writable_bytes(buffer));
  if (result) { return *result; }
  if (result.error().code == EAGAIN) { return std::nullopt; }
  return wrong(Kind::unreachable, result.error().code);
}

Reply<std::size_t> Wire::receive(std::span<char> buffer, const Attention& attention, Moment until)
{
  for (;;) {
    const auto count = receive_now(buffer);
    if (!count) { return Wrong(count.error()); }
    if (*count) { return **count; }
    const auto ready = await(descriptor(), POLLIN, attention, until); // renegotiation is not part of TLS 1.3
    if (!ready) { return Wrong(ready.error()); }
  }
}

} // namespace lockrun::engines::etcd
