#pragma once

#include "sys/descriptor.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <string>

#include <sys/socket.h>

namespace lockrun::sys {

// Where a server listens.
struct SocketAddress {
  ::sockaddr_storage storage{};
  ::socklen_t size = 0;
};

// Begins a stream connection to `address`: it is made, or has failed, once the descriptor is writable, which
// connection_error() then tells. Never blocks; what is sent goes out at once (TCP_NODELAY).
Result<Descriptor> connect(const SocketAddress& address);

// The error that waits at a socket, 0 for none (SO_ERROR).
Result<int> connection_error(const Descriptor& socket);

// One message to whoever listens at the local socket `path`, which takes datagrams, or else a stream of messages that
// end with NUL. EAGAIN: it has not taken it within `patience`, or a bit more.
Result<void> send_message(const char* path, const std::string& text, std::chrono::milliseconds patience);

} // namespace lockrun::sys
