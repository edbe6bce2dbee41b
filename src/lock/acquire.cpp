#include "backends/kernel_lock.hpp"
#include "lock/hold.hpp"
#include "lock/lock_file.hpp"
#include "lock/wait.hpp"
#include "sys/clock.hpp"

#include <lockrun/lock.hpp>

#include <span>
#include <utility>

namespace lockrun {
namespace {

using backends::KernelLock;
using std::chrono::nanoseconds;

// In the order in which they are taken, so that two callers of `both` cannot deadlock.
std::span<const KernelLock* const> kernel_locks(Api api)
{
  static constexpr const KernelLock* k_locks[] = {&backends::k_flock, &backends::k_ofd};
  const std::span<const KernelLock* const> all(k_locks);
  switch (api) {
  case Api::flock:
    return all.first(1);
  case Api::ofd:
    return all.last(1);
  case Api::both:
    break;
  }
  return all;
}

bool needs_writable(const LockRequest& request)
{
  return request.mode == Mode::exclusive && request.api != Api::flock;
}

// Tries, and queues when the lock is busy and may be waited for.
Result<void, Error> take(
  const KernelLock& kind, const sys::Descriptor& fd, const LockRequest& request, const Patience& patience)
{
  const auto attempt = kind.lock(fd, request.mode, request.range, Wait::never);
  if (!attempt) { return tl::unexpected(Error{Reason::lock_failed, request.path, attempt.error()}); }
  if (*attempt == sys::Attempt::acquired) { return {}; }
  if (request.patience == nanoseconds(0)) { return tl::unexpected(Error{Reason::busy, request.path, {}}); }
  if (patience.plan.observer != nullptr) { patience.plan.observer->waiting(); }
  const auto call = [&] { return kind.lock(fd, request.mode, request.range, Wait::allowed); };
  return wait_blocking(call, patience, request.path, Reason::lock_failed);
}

Result<void, Error> take_all(const sys::Descriptor& fd, const LockRequest& request, const Patience& patience)
{
  for (const KernelLock* const kind : kernel_locks(request.api)) {
    auto taken = take(*kind, fd, request, patience);
    if (!taken) { return taken; }
  }
  return {};
}

bool is_bad_descriptor(const Error& error)
{
  return error.reason == Reason::lock_failed && error.cause.code == EBADF;
}

// NFS turns flock into a lock on a range of bytes, which wants a writable descriptor (flock(2), NFS details); that
// shows as EBADF, and only then is the file opened for writing: a file open for writing cannot be executed (ETXTBSY).
Result<LockFile, Error> open_and_take(const LockRequest& request, const Patience& patience)
{
  Access access = needs_writable(request) ? Access::write : Access::read;
  for (;;) {
    auto file = open_lock_file(request, access, patience);
    if (!file) { return file; }
    const auto taken = take_all(file->fd, request, patience);
    if (taken) { return file; }
    if (access == Access::write || !is_bad_descriptor(taken.error())) { return tl::unexpected(taken.error()); }
    access = Access::write;
  }
}

// While we opened or waited, somebody may have removed or replaced the file: a lock on a removed file excludes nobody.
Result<bool, Error> still_names(const LockRequest& request, const sys::FileIdentity& identity)
{
  const auto status = sys::stat(request.path.c_str());
  if (status) { return status->identity == identity; }
  if (status.error().code == ENOENT) { return false; }
  return tl::unexpected(Error{Reason::open_failed, request.path, status.error()});
}

Lock lock_of(sys::Descriptor fd, const LockRequest& request, const sys::FileIdentity& identity)
{
  std::vector<Hold> holds;
  holds.push_back(Hold{std::move(fd), request.mode, request.api, request.range, identity});
  return Lock(std::move(holds));
}

Result<Lock, Error> acquire_descriptor(const LockRequest& request, const Patience& patience)
{
  sys::Descriptor fd(*request.fd);
  auto taken = take_all(fd, request, patience);
  if (!taken) {
    if (is_bad_descriptor(taken.error())) { taken.error().reason = Reason::bad_descriptor; }
    return tl::unexpected(taken.error());
  }
  return lock_of(std::move(fd), request, {});
}

} // namespace

Lock::Lock(std::vector<Hold> holds) noexcept : m_holds(std::move(holds)) {}
Lock::Lock(Lock&&) noexcept = default;
Lock& Lock::operator=(Lock&&) noexcept = default;
Lock::~Lock() = default;

Result<void> Lock::release()
{
  Result<void> result;
  for (const Hold& hold : m_holds) {
    for (const KernelLock* const kind : kernel_locks(hold.api)) {
      const auto unlocked = kind->unlock(hold.fd, hold.range);
      if (!unlocked && result) { result = unlocked; }
    }
  }
  m_holds.clear();
  return result;
}

Result<Lock, Error> acquire(const LockRequest& request, const WaitPlan& plan)
{
  // Nobody reads the clock for a lock that is free or not waited for.
  const bool may_wait = request.patience != nanoseconds(0);
  const nanoseconds began = may_wait ? sys::steady_now() : nanoseconds(0);
  const Patience patience{plan, began, may_wait && request.patience ? Deadline(began + *request.patience) : Deadline()};
  if (request.fd) { return acquire_descriptor(request, patience); }
  for (;;) {
    auto file = open_and_take(request, patience);
    if (!file) { return tl::unexpected(file.error()); }
    const auto current = still_names(request, file->status.identity);
    if (!current) { return tl::unexpected(current.error()); }
    if (*current) { return lock_of(std::move(file->fd), request, file->status.identity); }
  }
}

} // namespace lockrun
