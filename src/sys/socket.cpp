#include "sys/socket.hpp"

#include <cerrno>

#include <netinet/in.h>
#include <netinet/tcp.h>

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

} // namespace lockrun::sys
