#include "sys/socket.hpp"

#include "sys/again.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/time.h>
#include <sys/un.h>

namespace lockrun::sys {

Result<Descriptor> connect(const SocketAddress& address)
{
  Descriptor socket(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open()) { return tl::unexpected(SysError{"socket", errno}); }
  const int on = 1;
  (void)::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); // slower without, but right
  const auto* const where = reinterpret_cast<const ::sockaddr*>(&address.storage);
  if (::connect(socket.get(), where, address.size) != 0 && errno != EINPROGRESS && errno != EINTR) {
    return tl::unexpected(SysError{"connect", errno});
  }
  return socket;
}

Result<int> connection_error(const Descriptor& socket)
{
  int error = 0;
  ::socklen_t size = sizeof error;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
    return tl::unexpected(SysError{"getsockopt", errno});
  }
  return error;
}

Result<void> send_message(const char* path, const std::string& text, std::chrono::milliseconds patience)
{
  ::sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::copy_n(path, std::min(std::strlen(path), sizeof address.sun_path - 1), address.sun_path);
  const auto* const where = reinterpret_cast<const ::sockaddr*>(&address);
  constexpr suseconds_t k_microseconds = 1000;
  const ::timeval limit{0, static_cast<suseconds_t>(patience.count()) * k_microseconds};
  for (const bool is_stream : {false, true}) {
    const Descriptor socket(::socket(AF_UNIX, (is_stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
    if (!socket.is_open()) { return tl::unexpected(SysError{"socket", errno}); }
    if (::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0) {
      return tl::unexpected(SysError{"setsockopt", errno});
    }
    if (again([&] { return ::connect(socket.get(), where, sizeof address); }) != 0) {
      if (errno == EPROTOTYPE && !is_stream) { continue; }
      return tl::unexpected(SysError{"connect", errno});
    }
    const std::size_t size = text.size() + (is_stream ? 1 : 0);
    if (again([&] { return ::send(socket.get(), text.c_str(), size, MSG_NOSIGNAL); }) < 0) {
      return tl::unexpected(SysError{"send", errno});
    }
    return {};
  }
  return tl::unexpected(SysError{"connect", EPROTOTYPE});
}

} // namespace lockrun::sys
