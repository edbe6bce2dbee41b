#pragma once

#include "sys/descriptor.hpp"

#include <optional>

namespace lockrun {

// The right to look at /proc/locks while waiting. One process of a machine has it at a time: with n waiters on one lock
// a look costs the kernel n^2 bytes, and a thousand waiters that all look would have it do nothing else (4 ms each).
// Who has looked keeps its turn for a hundred times as long as the look took, so that all of them together use 1 % of
// one processor. It is a lock on /proc/locks itself, which everybody may read: it needs no place, no permission, and
// ends with its process.
class [[nodiscard]] LookTurn {
public:
  // None when it is somebody else's turn. Does not block.
  static std::optional<LookTurn> take();

private:
  explicit LookTurn(sys::Descriptor fd) noexcept : m_fd(std::move(fd)) {}
  sys::Descriptor m_fd;
};

} // namespace lockrun
