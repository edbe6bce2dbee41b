#include "sys/channel.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace lockrun::sys {

Result<SocketPair> socket_pair(SocketKind kind)
{
  int ends[2] = {-1, -1};
  const int type = kind == SocketKind::stream ? SOCK_STREAM : SOCK_SEQPACKET;
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) {
    return tl::unexpected(SysError{"socketpair", errno});
  }
  return SocketPair{Descriptor(ends[0]), Descriptor(ends[1])};
}

Result<std::size_t> receive(const Descriptor& socket, std::span<std::byte> room)
{
  for (;;) {
    const ssize_t count = ::recv(socket.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (count >= 0) { return static_cast<std::size_t>(count); }
    if (errno == ECONNRESET) { return std::size_t{0}; } // the other end was closed before it had read everything
    if (errno != EINTR) { return tl::unexpected(SysError{"recv", errno}); }
  }
}

Result<std::size_t> send(const Descriptor& socket, std::span<const std::byte> bytes)
{
  for (;;) {
    const ssize_t count = ::send(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count >= 0) { return static_cast<std::size_t>(count); }
    if (errno != EINTR) { return tl::unexpected(SysError{"send", errno}); }
  }
}

Result<std::size_t> unread(const Descriptor& socket)
{
  int bytes = 0;
  if (::ioctl(socket.get(), SIOCOUTQ, &bytes) != 0) { return tl::unexpected(SysError{"ioctl", errno}); }
  return static_cast<std::size_t>(bytes);
}

Result<unsigned> wait_readable(
  std::initializer_list<const Descriptor*> sources, std::optional<std::chrono::nanoseconds> patience)
{
  std::array<pollfd, 4> polled{};
  const std::size_t count = std::min(sources.size(), polled.size());
  for (std::size_t i = 0; i < count; ++i) { polled[i] = {sources.begin()[i]->get(), POLLIN, 0}; }
  timespec limit{};
  if (patience) {
    const auto left = std::max(*patience, std::chrono::nanoseconds(0));
    const auto whole = std::chrono::duration_cast<std::chrono::seconds>(left);
    limit = {whole.count(), (left - whole).count()};
  }
  if (::ppoll(polled.data(), count, patience ? &limit : nullptr, nullptr) < 0) {
    if (errno == EINTR) { return 0U; }
    return tl::unexpected(SysError{"ppoll", errno});
  }
  unsigned ready = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (polled[i].revents != 0) { ready |= 1U << i; }
  }
  return ready;
}

} // namespace lockrun::sys
