#include "kernel/kernel_lock.hpp"

namespace lockrun::kernel {

const KernelLock k_flock = {
  "flock",
  [](const sys::Descriptor& fd, Mode mode, const Range&, Wait wait) { return sys::flock(fd, mode, wait); },
  [](const sys::Descriptor& fd, const Range&) { return sys::flock_unlock(fd); },
  sys::LockLine::Kind::flock,
};

} // namespace lockrun::kernel
