#pragma once

#include "sys/descriptor.hpp"
#include "sys/file.hpp"
#include "sys/proc.hpp"

#include <optional>

namespace lockrun {

// The right to look at something of /proc while waiting. One process of a machine has it at a time: a thousand waiters
// that all look would have the machine do nothing else. Who has looked keeps its turn for many times as long as the
// look took, all who wait for their turn together use 1 or 2 % of one processor. It is a lock on what is looked at,
// which everybody may read: it needs no place, no permission, and ends with its process.
class [[nodiscard]] LookTurn {
public:
  // At /proc/locks: with n waiters on one lock it costs the kernel n^2 bytes, 4 ms for 1,000.
  static std::optional<LookTurn> at_locks() { return take("/proc/locks"); }
  // At the hints of others (HolderHint), to leave the first one for a lock.
  static std::optional<LookTurn> at_hints() { return take("/proc/version"); }
  // At what our ancestors have open: half a millisecond, the more the deeper the tree.
  static std::optional<LookTurn> at_tree() { return take("/proc"); }

  // Whether a lock on this file is a turn, which nobody waits for.
  static bool may_be_on(const sys::FileIdentity& file);
  static bool may_be_on(const sys::LockLine& line);

private:
  // None when it is somebody else's turn. Does not block.
  static std::optional<LookTurn> take(const char* path);
  explicit LookTurn(sys::Descriptor fd) noexcept : m_fd(std::move(fd)) {}
  sys::Descriptor m_fd;
};

} // namespace lockrun
