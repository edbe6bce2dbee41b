#include "sys/socket.hpp"

#include "support/temp_dir.hpp"

#include <cerrno>
#include <cstring>
#include <string>

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/un.h>
#include <unistd.h>

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

// --- a message to a local socket ---

class Message : public ::testing::TestWithParam<int> {
protected:
  Message() : listener(::socket(AF_UNIX, GetParam() | SOCK_CLOEXEC, 0))
  {
    ::sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(listener.get(), reinterpret_cast<const ::sockaddr*>(&address), sizeof address), 0);
    if (GetParam() == SOCK_STREAM) { EXPECT_EQ(::listen(listener.get(), 0), 0); }
  }
  // Sends until there is no room.
  int error_when_full() const
  {
    for (;;) {
      const auto sent = sys::send_message(path.c_str(), "x", std::chrono::milliseconds(1));
      if (!sent) { return sent.error().code; }
    }
  }

  const TempDir dir;
  const std::string path = dir / "log";
  const sys::Descriptor listener;
};

TEST_P(Message, Arrives)
{
  ASSERT_TRUE(sys::send_message(path.c_str(), "text", std::chrono::milliseconds(100)));
  char bytes[16]{};
  const bool is_stream = GetParam() == SOCK_STREAM;
  const sys::Descriptor accepted(is_stream ? ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC) : -1);
  const auto size = ::recv(is_stream ? accepted.get() : listener.get(), bytes, sizeof bytes, 0);
  EXPECT_EQ(std::string(bytes, static_cast<std::size_t>(size)), is_stream ? std::string("text\0", 5) : "text");
}

TEST_P(Message, IsGivenUpWhereNobodyTakesIt)
{
  EXPECT_EQ(error_when_full(), EAGAIN);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Message, ::testing::Values(SOCK_DGRAM, SOCK_STREAM),
  [](const auto& kind) { return kind.param == SOCK_DGRAM ? "datagrams" : "stream"; });

TEST(MessageToNobody, Fails)
{
  const TempDir dir;
  const std::string path = dir / "log";
  EXPECT_EQ(sys::send_message(path.c_str(), "text", std::chrono::milliseconds(1)).error().code, ENOENT);
}

} // namespace
} // namespace lockrun::testing
