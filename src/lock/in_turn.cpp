#include "lock/in_turn.hpp"

#include "kernel/queue.hpp"

#include <cerrno>
#include <utility>

namespace lockrun {
namespace {

using sys::Attempt;

Result<void, Error> queue_up(
  Wanted& wanted, const sys::Descriptor& queue, const LockRequest& request, const Patience& patience)
{
  kernel::QueuePlace place(queue);
  const auto call = [&]() -> Result<Attempt> {
    auto answer = place.enter();
    if (answer && *answer == Attempt::acquired) { answer = place.wait_turn(); }
    if (answer && *answer == Attempt::acquired) { answer = wanted.ask(Wait::allowed); }
    return answer;
  };
  auto waited = wait_blocking(call, patience, request.path, Reason::lock_failed);
  if (!waited) { wanted.give_back(); } // the part that we had, or all in the moment in which a signal ended the wait
  return waited;
}

} // namespace

Result<Taken, Error> take_in_turn(Wanted& wanted, const sys::Descriptor& fd, const sys::Descriptor& queue,
  const LockRequest& request, const Patience& how)
{
  Patience patience = how;
  const auto failed = [&](SysError cause) {
    return tl::unexpected(Error{Reason::lock_failed, request.path, cause, {}});
  };
  const auto queued = kernel::look_at_queue(queue);
  if (!queued) { return failed(queued.error()); }
  // Whoever passes the door from now on has come later.
  if (*queued == kernel::Queued::nobody) {
    const auto attempt = wanted.ask(Wait::never);
    if (!attempt) { return failed(attempt.error()); }
    if (*attempt == Attempt::acquired) { return wanted.taken(); }
  }
  // An ancestor's lock matters in whatever mode: whoever queues may wait for it.
  const auto look = [&] {
    const TreeLocks tree = locks_of_tree(fd, request.fd);
    const bool is_touched = wanted.is_touched_by(tree);
    return tree_look(tree, is_touched ? &tree.held.back() : nullptr);
  };
  const auto look_at_ancestors = [&]() -> Result<std::optional<Taken>, Error> {
    const TreeLocks tree = locks_of_tree(fd, request.fd);
    patience.tree_has_locks = tree.has_any;
    patience.look_at_tree = nullptr;
    auto taken = go_before_ancestors(wanted, tree, request);
    // What is touched already would be found again each time.
    if (tree.may_change && !wanted.is_touched_by(tree)) { patience.look_at_tree = look; }
    return taken;
  };
  if (asks_for_ancestors(request)) {
    if (may_look_later(fd, request, patience.plan)) {
      patience.look_at_tree = look;
    } else {
      auto nested = look_at_ancestors();
      if (!nested) { return tl::unexpected(nested.error()); }
      if (*nested) { return std::move(**nested); }
    }
  }
  if (!may_wait(request)) { return tl::unexpected(Error{Reason::busy, request.path, {}, {}}); }
  kernel::WaitingPlace place(queue);
  if (const auto placed = take_waiting_place(place, request); !placed) { return tl::unexpected(placed.error()); }
  announce_wait(patience, request);
  auto waited = queue_up(wanted, queue, request, patience);
  while (!waited && waited.error().reason == Reason::nested) {
    // The place in the queue is given up even where it turns out that there is something to wait for.
    auto nested = look_at_ancestors();
    if (!nested) { return tl::unexpected(nested.error()); }
    if (*nested) { return std::move(**nested); }
    waited = queue_up(wanted, queue, request, patience);
  }
  if (!waited) { return tl::unexpected(waited.error()); }
  return wanted.taken();
}

} // namespace lockrun
