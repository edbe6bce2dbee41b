#include "backends/kernel_lock.hpp"

namespace lockrun::backends {

const KernelLock k_ofd = {"ofd", sys::ofd_lock, sys::ofd_unlock, sys::LockLine::Kind::ofd};

} // namespace lockrun::backends
