#include "lock/take.hpp"

#include "lock/in_turn.hpp"
#include "lock/lock_file.hpp"
#include "sys/file.hpp"
#include "sys/process.hpp"

#include <cerrno>
#include <utility>

namespace lockrun {
namespace {

// The lock is busy. Is it for us to wait for? With nothing said the wait may find out yet.
Result<std::optional<Taken>, Error> look_at_ancestors(
  Wanted& wanted, const sys::Descriptor& fd, const LockRequest& request, Patience& patience)
{
  if (!asks_for_ancestors(request)) { return std::nullopt; }
  const auto look = [&wanted, &fd, &request] {
    const TreeLocks tree = locks_of_tree(fd, request.fd);
    return tree_look(tree, wanted.in_the_way(tree));
  };
  if (may_look_later(fd, request, patience.plan)) {
    patience.look_at_tree = look;
    return std::nullopt;
  }
  const TreeLocks tree = locks_of_tree(fd, request.fd);
  patience.tree_has_locks = tree.has_any;
  if (tree.may_change) { patience.look_at_tree = look; }
  return go_before_ancestors(wanted, tree, request);
}

// Tries, and queues in the kernel.
Result<Taken, Error> take_kinds(Wanted& wanted, const sys::Descriptor& fd, const sys::Descriptor& queue,
  const LockRequest& request, Patience patience)
{
  const auto attempt = wanted.ask(Wait::never);
  if (!attempt) { return tl::unexpected(Error{Reason::lock_failed, request.path, attempt.error(), {}}); }
  if (*attempt == sys::Attempt::acquired) { return wanted.taken(); }
  auto nested = look_at_ancestors(wanted, fd, request, patience);
  if (!nested) { return tl::unexpected(nested.error()); }
  if (*nested) { return std::move(**nested); }
  if (!may_wait(request)) { return tl::unexpected(Error{Reason::busy, request.path, {}, {}}); }
  kernel::WaitingPlace place(queue);
  if (const auto placed = take_waiting_place(place, request); !placed) { return tl::unexpected(placed.error()); }
  announce_wait(patience, request);
  const auto call = [&] { return wanted.ask(Wait::allowed); };
  const auto waited = wait_blocking(call, patience, request.path, Reason::lock_failed);
  if (!waited) {
    // Part of it, or all: it may have been granted in the moment in which a signal ended the wait.
    wanted.give_back();
    return tl::unexpected(waited.error());
  }
  return wanted.taken();
}

// Queues, slots and places are fcntl locks beside the lock itself, whose flock must not cover them.
Result<void, Error> check_separate(const sys::Descriptor& fd, const LockRequest& request)
{
  const auto locks = kernel::locks_on(fd);
  if (!locks) { return tl::unexpected(Error{Reason::lock_failed, request.path, locks.error(), {}}); }
  if (*locks == kernel::Locks::separate) { return {}; }
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
  for (;;) {
    Wanted wanted(fd, request);
    auto taken =
      in_turn ? take_in_turn(wanted, fd, queue, request, patience) : take_kinds(wanted, fd, queue, request, patience);
    if (!taken) { taken.error().has_lost_shared = wanted.has_lost_shared(); }
    if (!taken || is_still_covered(*taken, fd, request)) { return taken; }
    wanted.give_back();
  }
}

bool is_still_covered(const Taken& taken, const sys::Descriptor& fd, const LockRequest& request)
{
  return taken.is_complete || Wanted(fd, request).is_still_right(taken, locks_of_tree(fd, request.fd));
}

bool asks_for_ancestors(const LockRequest& request)
{
  return request.nested == Nested::run || (request.nested == Nested::fail && may_wait(request));
}

bool may_look_later(const sys::Descriptor& fd, const LockRequest& request, const WaitPlan& plan)
{
  // Who counts as one of few waiters must not do so when an ancestor holds the lock.
  if (request.nested == Nested::run || request.max_waiters) { return false; }
  if (!plan.detect_deadlock || plan.is_likely_nested) { return false; }
  // The caller's and our copy of it, or ours and that for the queue.
  const std::size_t own = request.fd || has_own_queue_fd(request) ? 2 : 1;
  const auto file = sys::fstat(fd);
  if (!file) { return false; }
  const auto open = sys::descriptors_of(sys::process_id(), file->identity);
  return open && open->size() <= own;
}

TreeLook tree_look(const TreeLocks& tree, const AncestorLock* in_the_way)
{
  return {in_the_way == nullptr ? std::nullopt : std::optional(party_of(*in_the_way)), tree.has_any, tree.may_change};
}

Result<std::optional<Taken>, Error> go_before_ancestors(
  Wanted& wanted, const TreeLocks& tree, const LockRequest& request)
{
  if (!wanted.is_touched_by(tree)) { return std::nullopt; }
  auto attempt = tree.is_uncertain ? wanted.ask(Wait::never) : Result<sys::Attempt>(sys::Attempt::busy);
  if (attempt && *attempt == sys::Attempt::busy) {
    if (request.nested == Nested::run) { wanted.leave_out(tree); }
    attempt = wanted.ask(Wait::never);
  }
  if (!attempt) { return tl::unexpected(Error{Reason::lock_failed, request.path, attempt.error(), {}}); }
  if (*attempt == sys::Attempt::acquired) { return wanted.taken(); }
  const AncestorLock* const lock = wanted.in_the_way(tree);
  if (lock == nullptr) { return std::nullopt; }
  return tl::unexpected(Error{Reason::nested, request.path, {}, {party_of(*lock)}});
}

Result<void, Error> take_waiting_place(kernel::WaitingPlace& place, const LockRequest& request)
{
  if (!request.max_waiters) { return {}; }
  const auto placed = place.take(*request.max_waiters);
  if (!placed) { return tl::unexpected(Error{Reason::lock_failed, request.path, placed.error(), {}}); }
  if (*placed == sys::Attempt::acquired) { return {}; }
  return tl::unexpected(Error{Reason::too_many_waiters, request.path, {}, {}});
}

} // namespace lockrun
