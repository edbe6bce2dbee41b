#include "kernel/kernel_lock.hpp"

namespace lockrun::kernel {

std::span<const KernelLock* const> kernel_locks(std::optional<Api> api)
{
  static constexpr const KernelLock* k_locks[] = {&k_flock, &k_ofd};
  const std::span<const KernelLock* const> all(k_locks);
  if (!api) { return {}; }
  switch (*api) {
  case Api::flock:
    return all.first(1);
  case Api::ofd:
    return all.last(1);
  case Api::both:
    break;
  }
  return all;
}

} // namespace lockrun::kernel
