#pragma once

#include "sys/descriptor.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>

namespace lockrun::sys {

// Two connected ends (socketpair(2)), of a stream of bytes or of whole packets.
enum class SocketKind { stream, packets };
struct SocketPair {
  Descriptor ours;
  Descriptor theirs;
};
Result<SocketPair> socket_pair(SocketKind kind);

// What has arrived; 0 bytes when the other end is closed. Never blocks: EAGAIN when nothing is there (recv(2)).
Result<std::size_t> receive(const Descriptor& socket, std::span<std::byte> room);

// Sends as much as goes at once, and returns how much that was; EAGAIN when nothing does. Never blocks, and makes no
// SIGPIPE: EPIPE when nobody is left to read (send(2)).
Result<std::size_t> send(const Descriptor& socket, std::span<const std::byte> bytes);

// Whether the other end has read all that was sent to it: 0 if it has, otherwise what that takes up in the kernel
// (SIOCOUTQ, unix(7)).
Result<std::size_t> unread(const Descriptor& socket);

// Waits until one of `sources` has something to be read, its end included (poll(2)): bit i of the answer for source i,
// 0 when `patience` passed first. Those that are not open are passed over. Without patience it waits for ever. A signal
// handler's interruption counts as 0.
Result<unsigned> wait_readable(
  std::initializer_list<const Descriptor*> sources, std::optional<std::chrono::nanoseconds> patience);

} // namespace lockrun::sys
