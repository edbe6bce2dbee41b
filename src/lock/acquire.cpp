#include "backends/kernel_lock.hpp"
#include "lock/hold.hpp"
#include "lock/lock_file.hpp"
#include "lock/nested.hpp"
#include "lock/place.hpp"
#include "lock/remove.hpp"
#include "lock/stamp.hpp"
#include "lock/wait.hpp"
#include "sys/clock.hpp"

#include <lockrun/lock.hpp>

#include <utility>

namespace lockrun {
namespace {

using backends::kernel_locks;
using backends::KernelLock;
using std::chrono::nanoseconds;

// What there is to hold at the end: nothing of our own when an ancestor's lock covers us (Nested::run).
enum class Taken { ours, ancestors };

bool needs_writable(const LockRequest& request)
{
  return request.mode == Mode::exclusive && request.api != Api::flock;
}

bool may_wait(const LockRequest& request)
{
  return request.patience != nanoseconds(0);
}

// The lock is busy. Is it for us to wait for?
Result<std::optional<Taken>, Error> look_at_ancestors(
  const KernelLock& kind, const sys::Descriptor& fd, const LockRequest& request)
{
  const bool matters = request.nested == Nested::run || (request.nested == Nested::fail && may_wait(request));
  if (!matters) { return std::nullopt; }
  const auto file = sys::fstat(fd);
  if (!file) { return tl::unexpected(Error{Reason::lock_failed, request.path, file.error(), {}}); }
  auto found = lock_of_ancestors(file->identity, kind.kind, request.range);
  if (!found) { return std::nullopt; }
  // An ancestor's shared lock does not exclude others: nothing that wants to be alone may run under it.
  const bool covers = found->mode == Mode::exclusive || request.mode == Mode::shared;
  if (request.nested == Nested::run && covers) { return Taken::ancestors; }
  return tl::unexpected(Error{Reason::nested, request.path, {}, {std::move(found->holder)}});
}

// Tries, and queues when the lock is busy and may be waited for.
Result<Taken, Error> take(
  const KernelLock& kind, const sys::Descriptor& fd, const LockRequest& request, const Patience& patience)
{
  const auto attempt = kind.lock(fd, request.mode, request.range, Wait::never);
  if (!attempt) { return tl::unexpected(Error{Reason::lock_failed, request.path, attempt.error(), {}}); }
  if (*attempt == sys::Attempt::acquired) { return Taken::ours; }
  const auto nested = look_at_ancestors(kind, fd, request);
  if (!nested) { return tl::unexpected(nested.error()); }
  if (*nested) { return **nested; }
  if (!may_wait(request)) { return tl::unexpected(Error{Reason::busy, request.path, {}, {}}); }
  if (patience.plan.observer != nullptr) { patience.plan.observer->waiting(); }
  bool granted = false;
  const auto call = [&] {
    auto answer = kind.lock(fd, request.mode, request.range, Wait::allowed);
    granted = answer && *answer == sys::Attempt::acquired;
    return answer;
  };
  const auto waited = wait_blocking(call, patience, request.path, Reason::lock_failed);
  if (!waited) {
    // It was granted in the moment in which a signal ended the wait.
    if (granted) { (void)kind.unlock(fd, request.range); }
    return tl::unexpected(waited.error());
  }
  return Taken::ours;
}

// All or none: what a failure leaves behind would stay with a descriptor of the caller's.
Result<Taken, Error> take_all(const sys::Descriptor& fd, const LockRequest& request, const Patience& patience)
{
  const auto kinds = kernel_locks(request.api);
  for (std::size_t count = 0; count < kinds.size(); ++count) {
    auto taken = take(*kinds[count], fd, request, patience);
    if (taken && *taken == Taken::ours) { continue; }
    for (const KernelLock* const kind : kinds.first(count)) { (void)kind->unlock(fd, request.range); }
    return taken;
  }
  return Taken::ours;
}

bool is_bad_descriptor(const Error& error)
{
  return error.reason == Reason::lock_failed && error.cause.code == EBADF;
}

struct TakenFile {
  LockFile file;
  Taken taken;
};

// NFS turns flock into a lock on a range of bytes, which wants a writable descriptor (flock(2), NFS details); that
// shows as EBADF, and only then is the file opened for writing: a file open for writing cannot be executed (ETXTBSY).
Result<TakenFile, Error> open_and_take(const LockRequest& request, const Patience& patience)
{
  Access access = needs_writable(request) ? Access::write : Access::read;
  for (;;) {
    auto file = open_lock_file(request, access, patience);
    if (!file) { return tl::unexpected(file.error()); }
    const auto taken = take_all(file->fd, request, patience);
    if (taken) { return TakenFile{std::move(*file), *taken}; }
    if (access == Access::write || !is_bad_descriptor(taken.error())) { return tl::unexpected(taken.error()); }
    access = Access::write;
  }
}

enum class Naming { same_file, another_file };

// While we opened or waited, somebody may have removed or replaced the file: a lock on a removed file excludes nobody.
Result<Naming, Error> what_is_named(const LockRequest& request, const sys::FileIdentity& identity)
{
  const auto status = sys::stat(request.path.c_str());
  if (status) { return status->identity == identity ? Naming::same_file : Naming::another_file; }
  if (status.error().code == ENOENT) { return Naming::another_file; }
  return tl::unexpected(Error{Reason::open_failed, request.path, status.error(), {}});
}

Hold hold_of(sys::Descriptor fd, const LockRequest& request)
{
  return {std::move(fd), request.mode, request.api, request.range, request.path, request.file.unlink};
}

// A second descriptor of the same open file, and so of the same locks: the caller's stays open whatever we close.
Result<sys::Descriptor, Error> borrow(const LockRequest& request)
{
  constexpr int k_above_standard = 3;
  auto fd = sys::duplicate(*request.fd, k_above_standard);
  if (fd) { return std::move(*fd); }
  const Reason reason = fd.error().code == EBADF ? Reason::bad_descriptor : Reason::open_failed;
  return tl::unexpected(Error{reason, request.path, fd.error(), {}});
}

Result<std::vector<Hold>, Error> acquire_descriptor(const LockRequest& request, const Patience& patience)
{
  auto fd = borrow(request);
  if (!fd) { return tl::unexpected(fd.error()); }
  auto taken = take_all(*fd, request, patience);
  std::vector<Hold> holds;
  if (!taken) {
    if (is_bad_descriptor(taken.error())) { taken.error().reason = Reason::bad_descriptor; }
    return tl::unexpected(taken.error());
  }
  if (*taken == Taken::ours) { holds.push_back(hold_of(std::move(*fd), request)); }
  return holds;
}

Result<std::vector<Hold>, Error> acquire_path(const LockRequest& request, const Patience& patience)
{
  std::vector<Hold> holds;
  for (;;) {
    auto got = open_and_take(request, patience);
    if (!got) { return tl::unexpected(got.error()); }
    if (got->taken == Taken::ancestors) { return holds; }
    const auto naming = what_is_named(request, got->file.status.identity);
    if (!naming) { return tl::unexpected(naming.error()); }
    if (*naming == Naming::another_file) { continue; }
    if (got->file.status.type == sys::FileType::regular) { stamp(got->file.fd); }
    holds.push_back(hold_of(std::move(got->file.fd), request));
    return holds;
  }
}

Result<std::vector<Hold>, Error> acquire_name(const LockRequest& request, const Patience& patience)
{
  auto place = place_of(request.path);
  if (!place) { return tl::unexpected(place.error()); }
  LockRequest placed = request;
  placed.path = place->path;
  auto holds = acquire_path(placed, patience);
  if (!holds) {
    holds.error().target = request.path;
    return holds;
  }
  if (!holds->empty()) { holds->push_back({std::move(place->directory), Mode::shared, Api::flock, {}, {}, false}); }
  return holds;
}

} // namespace

Lock::Lock(std::vector<Hold> holds) noexcept : m_holds(std::move(holds)) {}
Lock::Lock(Lock&&) noexcept = default;
Lock& Lock::operator=(Lock&&) noexcept = default;
Lock::~Lock() = default;

Result<void> Lock::release()
{
  Result<void> result;
  const auto keep_first_error = [&result](const Result<void>& step) {
    if (!step && result) { result = step; }
  };
  for (const Hold& hold : m_holds) {
    if (hold.unlink) { keep_first_error(remove_lock_file(hold)); }
    for (const KernelLock* const kind : kernel_locks(hold.api)) { keep_first_error(kind->unlock(hold.fd, hold.range)); }
  }
  m_holds.clear();
  return result;
}

Result<Lock, Error> acquire(const LockRequest& request, const WaitPlan& plan)
{
  // Nobody reads the clock for a lock that is not waited for.
  const nanoseconds began = may_wait(request) ? sys::steady_now() : nanoseconds(0);
  const Patience patience{plan, began, request.patience ? Deadline(began + *request.patience) : Deadline()};
  auto holds = request.fd              ? acquire_descriptor(request, patience)
               : is_name(request.path) ? acquire_name(request, patience)
                                       : acquire_path(request, patience);
  if (!holds) { return tl::unexpected(holds.error()); }
  return Lock(std::move(*holds));
}

Result<void, Error> unlock(const LockRequest& request)
{
  const auto fd = borrow(request);
  if (!fd) { return tl::unexpected(fd.error()); }
  for (const KernelLock* const kind : kernel_locks(request.api)) {
    const auto unlocked = kind->unlock(*fd, request.range);
    if (!unlocked) {
      const Reason reason = unlocked.error().code == EBADF ? Reason::bad_descriptor : Reason::lock_failed;
      return tl::unexpected(Error{reason, request.path, unlocked.error(), {}});
    }
  }
  return {};
}

} // namespace lockrun
