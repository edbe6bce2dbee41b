#include "engines/net/wire.hpp"

#include "engines/net/names.hpp"
#include "sys/channel.hpp"
#include "text/words.hpp"

#include <cerrno>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>

namespace lockrun::engines::net {
namespace {

using Kind = Trouble::Kind;
using Wrong = tl::unexpected<Trouble>;

Wrong wrong(Kind kind, std::string text)
{
  return Wrong(Trouble{kind, std::move(text)});
}

Wrong wrong(Kind kind, int code)
{
  return wrong(kind, text::errno_words(code));
}

// The oldest of OpenSSL's complaints, which is the cause of the others.
std::string tls_complaint()
{
  const unsigned long code = ::ERR_get_error();
  ::ERR_clear_error();
  if (ERR_SYSTEM_ERROR(code)) { return text::errno_words(ERR_GET_REASON(code)); }
  const char* const words = code == 0 ? nullptr : ::ERR_reason_error_string(code);
  return words != nullptr ? words : "the connection was closed";
}

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
  // To read openssl.cnf takes a tenth of what a connection does: only if the user names one (openssl-env(7)).
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes it
  const bool has_settings = std::getenv("OPENSSL_CONF") != nullptr;
  if (::OPENSSL_init_ssl(has_settings ? 0 : OPENSSL_INIT_NO_LOAD_CONFIG, nullptr) != 1) {
    return wrong(Kind::tls, tls_complaint());
  }
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

Wire::Wire(sys::Descriptor socket) noexcept : m_socket(std::move(socket)) {}

Reply<Wire> Wire::begin(const sys::SocketAddress& address, const std::string& host, ::SSL_CTX* context)
{
  auto socket = sys::connect(address);
  if (!socket) { return wrong(Kind::unreachable, socket.error().code); }
  Wire wire(std::move(*socket));
  if (context == nullptr) { return wire; }
  const auto begun = wire.begin_tls(host, context);
  if (!begun) { return Wrong(begun.error()); }
  return wire;
}

Reply<void> Wire::begin_tls(const std::string& host, ::SSL_CTX* context)
{
  m_tls.reset(::SSL_new(context));
  if (!m_tls || ::SSL_set_fd(m_tls.get(), descriptor()) != 1) { return wrong(Kind::tls, tls_complaint()); }
  const bool named =
    is_address(host)
      ? ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(m_tls.get()), host.c_str()) == 1
      : ::SSL_set1_host(m_tls.get(), host.c_str()) == 1 && ::SSL_set_tlsext_host_name(m_tls.get(), host.c_str()) == 1;
  if (!named) { return wrong(Kind::tls, tls_complaint()); }
  return {};
}

Reply<Progress> Wire::advance()
{
  if (!m_is_connected) {
    const auto code = sys::connection_error(m_socket);
    if (!code) { return wrong(Kind::unreachable, code.error().code); }
    if (*code != 0) { return wrong(Kind::unreachable, *code); }
    m_is_connected = true;
  }
  if (m_is_ready) { return Progress::done; }
  if (m_tls) {
    errno = 0;
    const int result = ::SSL_connect(m_tls.get());
    if (result != 1) {
      const auto events = wanted(result, "no TLS");
      if (!events) { return Wrong(events.error()); }
      m_events = *events;
      return Progress::waiting;
    }
  }
  m_is_ready = true;
  return Progress::done;
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

Reply<std::size_t> Wire::send(std::string_view bytes)
{
  std::size_t sent = 0;
  m_events = POLLOUT;
  if (m_tls) {
    errno = 0;
    const int result = ::SSL_write_ex(m_tls.get(), bytes.data(), bytes.size(), &sent);
    if (result == 1) { return sent; }
    const auto events = wanted(result, "cannot send");
    if (!events) { return Wrong(events.error()); }
    m_events = *events;
    return 0;
  }
  const auto result = sys::send(m_socket, std::as_bytes(std::span(bytes)));
  if (!result && result.error().code != EAGAIN) { return wrong(Kind::unreachable, result.error().code); }
  return result.value_or(0);
}

Reply<std::optional<std::size_t>> Wire::receive(std::span<char> buffer)
{
  m_events = POLLIN;
  if (m_tls) {
    std::size_t count = 0;
    errno = 0;
    const int result = ::SSL_read_ex(m_tls.get(), buffer.data(), buffer.size(), &count);
    if (result == 1) { return count; }
    if (::SSL_get_error(m_tls.get(), result) == SSL_ERROR_ZERO_RETURN) { return std::size_t{0}; }
    const auto events = wanted(result, "cannot receive");
    if (!events) { return Wrong(events.error()); }
    m_events = *events;
    return std::nullopt;
  }
  const auto result = sys::receive(m_socket, std::as_writable_bytes(buffer));
  if (result) { return *result; }
  if (result.error().code == EAGAIN) { return std::nullopt; }
  return wrong(Kind::unreachable, result.error().code);
}

} // namespace lockrun::engines::net
