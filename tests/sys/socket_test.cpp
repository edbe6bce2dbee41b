#include "sys/socket.hpp"

#include <cerrno>
#include <cstring>

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>

namespace lockrun::testing {
namespace {

// A loopback address, where somebody listens or nobody can.
sys::SocketAddress loopback(sys::Descriptor* listener)
{
  ::sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(1);
  if (listener != nullptr) {
    address.sin_port = 0;
    *listener = sys::Descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ::socklen_t size = sizeof address;
    auto* const generic = reinterpret_cast<::sockaddr*>(&address);
    EXPECT_EQ(::bind(listener->get(), generic, size), 0);
    EXPECT_EQ(::getsockname(listener->get(), generic, &size), 0);
    EXPECT_EQ(::listen(listener->get(), 1), 0);
  }
  sys::SocketAddress result;
  std::memcpy(&result.storage, &address, sizeof address);
  result.size = sizeof address;
  return result;
}

int error_after(const Result<sys::Descriptor>& socket)
{
  if (!socket) { return socket.error().code; }
  ::pollfd writable{socket->get(), POLLOUT, 0};
  EXPECT_EQ(::poll(&writable, 1, -1), 1);
  return sys::connection_error(*socket).value_or(-1);
}

TEST(Socket, ConnectsWithoutBlocking)
{
  sys::Descriptor listener;
  EXPECT_EQ(error_after(sys::connect(loopback(&listener))), 0);
}

TEST(Socket, TellsWhyItIsNotConnected)
{
  EXPECT_EQ(error_after(sys::connect(loopback(nullptr))), ECONNREFUSED);
}

TEST(Socket, HasNoErrorsOfWhatIsNoSocket)
{
  EXPECT_EQ(sys::connection_error(sys::Descriptor()).error().code, EBADF);
  sys::SocketAddress nowhere;
  nowhere.storage.ss_family = 255;
  EXPECT_EQ(sys::connect(nowhere).error().code, EAFNOSUPPORT);
}

} // namespace
} // namespace lockrun::testing
