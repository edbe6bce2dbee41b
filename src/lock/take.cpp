#include "lock/take.hpp"

#include "backends/kernel_lock.hpp"
#include "lock/in_turn.hpp"

#include <cerrno>
#include <utility>

namespace lockrun {
namespace {

using backends::kernel_locks;
using backends::KernelLock;

// The lock is busy. Is it for us to wait for?
Result<std::optional<Taken>, Error> look_at_ancestors(
  const KernelLock& kind, const sys::Descriptor& fd, const LockRequest& request, Patience& patience)
{
  if (!asks_for_ancestors(request)) { return std::nullopt; }
  const auto file = sys::fstat(fd);
  if (!file) { return tl::unexpected(Error{Reason::lock_failed, request.path, file.error(), {}}); }
  auto tree = lock_of_ancestors(file->identity, kind.kind, request.range);
  patience.tree_has_locks = tree.has_any;
  if (!tree.held) { return std::nullopt; }
  return taken_by(std::move(*tree.held), request);
}

// Tries, and queues in the kernel.
Result<Taken, Error> take_kind(const KernelLock& kind, const sys::Descriptor& fd, const LockRequest& request,
  Patience patience, backends::WaitingPlace& place)
{
  const auto attempt = kind.lock(fd, request.mode, request.range, Wait::never);
  if (!attempt) { return tl::unexpected(Error{Reason::lock_failed, request.path, attempt.error(), {}}); }
  if (*attempt == sys::Attempt::acquired) { return Taken{}; }
  const auto nested = look_at_ancestors(kind, fd, request, patience);
  if (!nested) { return tl::unexpected(nested.error()); }
  if (*nested) { return **nested; }
  if (!may_wait(request)) { return tl::unexpected(Error{Reason::busy, request.path, {}, {}}); }
  if (const auto placed = take_waiting_place(place, request); !placed) { return tl::unexpected(placed.error()); }
  if (patience.plan.observer != nullptr) { patience.plan.observer->waiting(request); }
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
  return Taken{};
}

// What a failure leaves behind would stay with a descriptor of the caller's.
Result<Taken, Error> take_kinds(const sys::Descriptor& fd, const LockRequest& request, const Patience& patience)
{
  backends::WaitingPlace place(fd);
  const auto kinds = kernel_locks(request.api);
  for (std::size_t count = 0; count < kinds.size(); ++count) {
    auto taken = take_kind(*kinds[count], fd, request, patience, place);
    if (taken && taken->whose == Taken::Whose::ours) { continue; }
    for (const KernelLock* const kind : kinds.first(count)) { (void)kind->unlock(fd, request.range); }
    return taken;
  }
  return Taken{};
}

// Queues, slots and places are fcntl locks beside the lock itself, whose flock must not cover them.
Result<void, Error> check_separate(const sys::Descriptor& fd, const LockRequest& request)
{
  const auto locks = backends::locks_on(fd);
  if (!locks) { return tl::unexpected(Error{Reason::lock_failed, request.path, locks.error(), {}}); }
  if (*locks == backends::Locks::separate) { return {}; }
  return tl::unexpected(Error{Reason::lock_failed, request.path, {"fstatfs", EOPNOTSUPP}, {}});
}

} // namespace

Result<Taken, Error> take(const sys::Descriptor& fd, const LockRequest& request, const Patience& patience)
{
  const bool in_turn = request.fair || request.slots > 0;
  if (in_turn || request.max_waiters) {
    if (const auto checked = check_separate(fd, request); !checked) { return tl::unexpected(checked.error()); }
  }
  return in_turn ? take_in_turn(fd, request, patience) : take_kinds(fd, request, patience);
}

bool asks_for_ancestors(const LockRequest& request)
{
  return request.nested == Nested::run || (request.nested == Nested::fail && may_wait(request));
}

Result<Taken, Error> taken_by(AncestorHold ancestor, const LockRequest& request)
{
  // An ancestor's shared lock does not exclude others: nothing that wants to be alone may run under it.
  const bool covers = ancestor.mode == Mode::exclusive || request.mode == Mode::shared;
  if (request.nested == Nested::run && covers) { return Taken{Taken::Whose::ancestors}; }
  return tl::unexpected(Error{Reason::nested, request.path, {}, {std::move(ancestor.holder)}});
}

Result<void, Error> take_waiting_place(backends::WaitingPlace& place, const LockRequest& request)
{
  if (!request.max_waiters) { return {}; }
  const auto placed = place.take(*request.max_waiters);
  if (!placed) { return tl::unexpected(Error{Reason::lock_failed, request.path, placed.error(), {}}); }
  if (*placed == sys::Attempt::acquired) { return {}; }
  return tl::unexpected(Error{Reason::too_many_waiters, request.path, {}, {}});
}

} // namespace lockrun
