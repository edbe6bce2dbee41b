#include "lock/remove.hpp"

#include "kernel/kernel_lock.hpp"

#include <cerrno>

namespace lockrun {
namespace {

bool is_ours_alone(const Hold& hold)
{
  if (hold.mode == Mode::exclusive) { return true; }
  for (const kernel::KernelLock* const kind : kernel::kernel_locks(hold.api)) {
    const auto turned = kind->lock(hold.fd, Mode::exclusive, hold.range, Wait::never);
    if (!turned || *turned != sys::Attempt::acquired) { return false; }
  }
  return true;
}

bool is_removable(const Hold& hold)
{
  const auto ours = sys::fstat(hold.fd);
  if (!ours || ours->type != sys::FileType::regular || ours->size != 0 || ours->links != 1) { return false; }
  const auto named = sys::lstat(hold.path.c_str()); // a symbolic link is not the file
  return named && named->identity == ours->identity;
}

} // namespace

Result<void> remove_lock_file(const Hold& hold)
{
  if (!is_ours_alone(hold) || !is_removable(hold)) { return {}; }
  const auto removed = sys::unlink(hold.path.c_str());
  if (!removed && removed.error().code != ENOENT) { return removed; }
  return {};
}

} // namespace lockrun
