#include "lock/acquire.hpp"

#include "kernel/kernel_lock.hpp"
#include "kernel/slots.hpp"
#include "lock/hold.hpp"
#include "lock/lock_file.hpp"
#include "lock/nested.hpp"
#include "lock/place.hpp"
#include "lock/remove.hpp"
#include "lock/several.hpp"
#include "lock/stamp.hpp"
#include "lock/take.hpp"
#include "lock/wait.hpp"
#include "sys/clock.hpp"

#include <lockrun/lock.hpp>

#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

namespace lockrun {
namespace {

using kernel::kernel_locks;
using kernel::KernelLock;
using std::chrono::nanoseconds;

bool is_bad_descriptor(const Error& error)
{
  return error.reason == Reason::lock_failed && error.cause.code == EBADF;
}

bool is_refused(const Error& error)
{
  const int code = error.cause.code;
  return error.reason == Reason::open_failed && (code == EACCES || code == EPERM || code == EROFS);
}

struct TakenFile {
  LockFile file;
  Taken taken;
};

// Only where the file system wants it is the file opened for writing: a file open for writing cannot be executed
// (ETXTBSY). Where we may not write, the first answer stands: to open the file was not the fault.
Result<TakenFile, Error> open_and_take(const LockRequest& request, const Patience& patience)
{
  Access access = access_for(request);
  std::optional<Error> first;
  for (;;) {
    auto file = open_lock_file(request, access, patience);
    if (!file) { return tl::unexpected(first && is_refused(file.error()) ? *first : file.error()); }
    auto taken = take(file->fd, file->queue_fd(), request, patience);
    if (taken) { return TakenFile{std::move(*file), std::move(*taken)}; }
    if (access == Access::write || !wants_writing(taken.error())) { return tl::unexpected(taken.error()); }
    first = taken.error();
    access = Access::write;
  }
}

Hold hold_of(sys::Descriptor fd, const LockRequest& request, Taken taken)
{
  const Mode mode = taken.slot ? Mode::shared : request.mode;
  const bool unlink = request.file.unlink && taken.is_complete;
  return {std::move(fd), mode, taken.api, request.range, request.path, unlink, taken.slot, std::move(taken.before)};
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
  auto taken = take(*fd, *fd, request, patience);
  std::vector<Hold> holds;
  if (!taken) {
    if (is_bad_descriptor(taken.error())) { taken.error().reason = Reason::bad_descriptor; }
    return tl::unexpected(taken.error());
  }
  if (taken->is_ours()) { holds.push_back(hold_of(std::move(*fd), request, std::move(*taken))); }
  return holds;
}

Result<std::vector<Hold>, Error> acquire_path(const LockRequest& request, const Patience& patience)
{
  std::vector<Hold> holds;
  Retries retries(patience);
  for (;;) {
    auto got = open_and_take(request, patience);
    if (!got) { return tl::unexpected(got.error()); }
    const auto naming = what_is_named(request, got->file.status.identity);
    if (!naming) { return tl::unexpected(naming.error()); }
    if (*naming == Naming::another_file) {
      if (auto reason = retries.reason_to_stop(request.path)) { return tl::unexpected(std::move(*reason)); }
      continue;
    }
    if (!got->taken.is_ours()) { return holds; }
    if (got->file.status.type == sys::FileType::regular) { stamp(got->file.fd); }
    holds.push_back(hold_of(std::move(got->file.fd), request, std::move(got->taken)));
    return holds;
  }
}

Result<std::vector<Hold>, Error> acquire_name(const LockRequest& request, const Patience& patience)
{
  Retries retries(patience);
  for (;;) {
    auto place = place_of(request.path);
    if (!place) { return tl::unexpected(place.error()); }
    LockRequest placed = request;
    placed.path = place->path;
    auto holds = acquire_path(placed, patience);
    if (!holds && is_place_gone(holds.error(), place->path, place->directory)) {
      if (auto reason = retries.reason_to_stop(request.path)) { return tl::unexpected(std::move(*reason)); }
      continue;
    }
    if (!holds) {
      holds.error().target = request.path;
      return holds;
    }
    if (!holds->empty()) { holds->push_back({std::move(place->directory), Mode::shared, Api::flock, {}, {}, false}); }
    return holds;
  }
}

// A file server has lost the file that we had open: it was removed or replaced from another machine (ESTALE). Whoever
// opens it again gets the new one, on the same deadline. What is lost again at once is broken.
class LostFile {
public:
  bool may_be_opened_again(const Error& error)
  {
    if (error.cause.code != ESTALE) { return false; }
    constexpr std::chrono::seconds k_at_once{1};
    const nanoseconds now = sys::steady_now();
    const bool is_broken = m_last && now - *m_last < k_at_once;
    m_last = now;
    return !is_broken;
  }

private:
  std::optional<nanoseconds> m_last;
};

Result<std::vector<Hold>, Error> acquire_once(const LockRequest& request, const Patience& patience)
{
  if (request.fd) { return acquire_descriptor(request, patience); }
  if (!request.also.empty()) { return acquire_several(request, patience); }
  return is_name(request.path) ? acquire_name(request, patience) : acquire_path(request, patience);
}

// Each call has been repeated (sys/again.hpp), but the file server, or a handler of the host program, goes on to
// interrupt it. What ends the wait is found out elsewhere.
bool is_interruption(const Error& error)
{
  return error.cause.call != nullptr && error.cause.code == EINTR;
}

Result<std::vector<Hold>, Error> acquire_holds(const LockRequest& request, const Patience& patience)
{
  Retries retries(patience);
  for (LostFile lost;;) {
    auto holds = acquire_once(request, patience);
    if (holds) { return holds; }
    const bool is_worth_another =
      is_interruption(holds.error()) || (!request.fd && lost.may_be_opened_again(holds.error()));
    if (!is_worth_another) { return holds; }
    if (auto reason = retries.reason_to_stop(request.path)) {
      if (may_wait(request)) { return tl::unexpected(std::move(*reason)); }
      return holds; // which is not known to be busy
    }
  }
}

// To close them would leave the lock with a descriptor of the caller's.
void give_back(std::vector<Hold> holds)
{
  for (Hold& hold : holds) { hold.unlink = false; }
  (void)Lock(std::move(holds)).release();
}

} // namespace

Lock::Lock(std::vector<Hold> holds) noexcept : m_holds(std::move(holds)) {}
Lock::Lock(Lock&&) noexcept = default;
Lock& Lock::operator=(Lock&&) noexcept = default;
Lock::~Lock() = default;

Result<void, Error> Lock::release()
{
  // That it is still locked is worse than that its file is still there.
  Result<void, Error> unlocked;
  Result<void, Error> removed;
  const auto keep_first_error = [](Result<void, Error>& result, Reason reason, const Hold& hold, Result<void> step) {
    if (!step && result) { result = tl::unexpected(Error{reason, hold.path, step.error()}); }
  };
  for (const Hold& hold : m_holds) {
    if (hold.unlink) { keep_first_error(removed, Reason::not_removed, hold, remove_lock_file(hold)); }
    for (const KernelLock* const kind : kernel_locks(hold.api)) {
      keep_first_error(unlocked, Reason::lock_failed, hold, unlock_but(hold.fd, *kind, hold.range, hold.before));
    }
    if (hold.slot) { keep_first_error(unlocked, Reason::lock_failed, hold, kernel::free_slot(hold.fd, *hold.slot)); }
  }
  m_holds.clear();
  return unlocked ? removed : unlocked;
}

std::optional<int> Lock::slot() const noexcept
{
  for (const Hold& hold : m_holds) {
    if (hold.slot) { return hold.slot; }
  }
  return std::nullopt;
}

Result<Lock, Error> acquire(const LockRequest& request, const WaitPlan& plan)
{
  Watch watch(plan, request);
  return acquire(request, watch);
}

Result<Lock, Error> acquire(const LockRequest& request, Watch& watch)
{
  watch.begin_if_limited();
  const Patience patience = watch.patience();
  auto holds = acquire_holds(request, patience);
  watch.end();
  auto verdict = watch.verdict();
  // What was granted in the moment in which the time was up is granted; a signal is obeyed even so.
  const bool is_interrupted = verdict && verdict->reason == Reason::interrupted;
  if (holds && !is_interrupted) { return Lock(std::move(*holds)); }
  if (holds) { give_back(std::move(*holds)); }
  // What failed for reasons of its own in the same moment says more.
  const bool is_cut_short = verdict && (is_interrupted || holds.error().cause.code == EINTR);
  return tl::unexpected(is_cut_short ? std::move(*verdict) : std::move(holds.error()));
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
