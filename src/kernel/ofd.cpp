#include "kernel/kernel_lock.hpp"

namespace lockrun::kernel {

const KernelLock k_ofd = {"ofd", sys::ofd_lock, sys::ofd_unlock, sys::LockLine::Kind::ofd};

} // namespace lockrun::kernel
