#pragma once

#include "sys/descriptor.hpp"
#include "sys/file.hpp"

#include <optional>
#include <utility>

#include <sys/types.h>

namespace lockrun {

// Tells other calls on this machine which process holds a lock, as long as it exists: so that of many calls that look
// at the same time only one reads the list of all locks. It is a shared lock on a byte of /proc/locks, whose offset
// says which file and which process is meant: it needs no permission, stores nothing, and ends with its process. It is
// no more than a hint: those who find it look at what that process has open, so that a wrong one deceives no caller.
class [[nodiscard]] HolderHint {
public:
  // Hints that cannot be left are not missed.
  static HolderHint leave(const sys::FileIdentity& file, pid_t holder);

  // What another call says.
  static std::optional<pid_t> find(const sys::FileIdentity& file);

  // Says that this process looks for the holder. None when another one says so, or is about to.
  static std::optional<HolderHint> begin_to_look(const sys::FileIdentity& file);
  static bool is_looked_for(const sys::FileIdentity& file);

private:
  explicit HolderHint(sys::Descriptor fd) noexcept : m_fd(std::move(fd)) {}
  sys::Descriptor m_fd;
};

} // namespace lockrun
