#include "lock/take.hpp"

#include "backends/kernel_lock.hpp"
#include "lock/in_turn.hpp"
#include "lock/lock_file.hpp"
#include "sys/process.hpp"

#include <cerrno>
#include <utility>

namespace lockrun {
namespace {

using backends::kernel_locks;
using backends::KernelLock;

// The lock is busy. Is it for us to wait for? With nothing said the wait may find out yet.
Result<std::optional<Taken>, Error> look_at_ancestors(
  const KernelLock& kind, const sys::Descriptor& fd, const LockRequest& request, Patience& patience)
{
  if (!asks_for_ancestors(request)) { return std::nullopt; }
  const auto file = sys::fstat(fd);
  if (!file) { return tl::unexpected(Error{Reason::lock_failed, request.path, file.error(), {}}); }
  const auto look = [identity = file->identity, &kind, &range = request.range] {
    return lock_of_ancestors(identity, kind.kind, range);
  };
  if (may_look_later(file->identity, request, patience.plan)) {
    patience.look_at_tree = look;
    return std::nullopt;
  }
  auto tree = look();
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
Result<Taken, Error> take_kinds(
  const sys::Descriptor& fd, const sys::Descriptor& queue, const LockRequest& request, const Patience& patience)
{
  backends::WaitingPlace place(queue);
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

Result<Taken, Error> take(
  const sys::Descriptor& fd, const sys::Descriptor& queue, const LockRequest& request, const Patience& patience)
{
  const bool in_turn = request.fair || request.slots > 0;
  if (in_turn || request.max_waiters) {
    if (const auto checked = check_separate(fd, request); !checked) { return tl::unexpected(checked.error()); }
  }
  return in_turn ? take_in_turn(fd, queue, request, patience) : take_kinds(fd, queue, request, patience);
}

bool asks_for_ancestors(const LockRequest& request)
{
  return request.nested == Nested::run || (request.nested == Nested::fail && may_wait(request));
}

bool may_look_later(const sys::FileIdentity& file, const LockRequest& request, const WaitPlan& plan)
{
  // Who counts as one of few waiters must not do so when an ancestor holds the lock.
  if (request.nested == Nested::run || request.max_waiters) { return false; }
  if (!plan.detect_deadlock || plan.is_likely_nested) { return false; }
  // The caller's and our copy of it, or ours and that for the queue.
  const std::size_t own = request.fd || has_own_queue_fd(request) ? 2 : 1;
  const auto open = sys::descriptors_of(sys::process_id(), file);
  return open && open->size() <= own;
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
