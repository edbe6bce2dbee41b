#include "lock/in_turn.hpp"

#include "kernel/queue.hpp"
#include "lock/ancestor_check.hpp"

#include <utility>

namespace lockrun {
namespace {

using sys::Attempt;

tl::unexpected<Error> failed(const LockRequest& request, SysError cause)
{
  return tl::unexpected(Error{Reason::lock_failed, request.path, cause, {}});
}

// Only if nobody queues: callers that draw a ticket from now on have come later.
Result<std::optional<Taken>, Error> try_at_once(
  Wanted& wanted, const sys::Descriptor& queue, const LockRequest& request)
{
  const auto queued = kernel::look_at_queue(queue);
  if (!queued) { return failed(request, queued.error()); }
  if (*queued == kernel::Queued::somebody) { return std::nullopt; }
  const auto attempt = wanted.ask(Wait::never);
  if (!attempt) { return failed(request, attempt.error()); }
  return *attempt == Attempt::acquired ? std::optional(wanted.taken()) : std::nullopt;
}

// An ancestor's lock matters in whatever mode: those before us in the queue may wait for it.
const AncestorLock* any_touched(const Wanted& wanted, const TreeLocks& tree)
{
  return wanted.is_touched_by(tree) ? &tree.held.back() : nullptr;
}

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

// Whether there is nothing left to wait for, and what comes of it.
bool is_decided(const Result<std::optional<Taken>, Error>& taken)
{
  return !taken || *taken;
}

Result<Taken, Error> decision(Result<std::optional<Taken>, Error> taken)
{
  if (!taken) { return tl::unexpected(std::move(taken.error())); }
  return std::move(**taken);
}

} // namespace

Result<Taken, Error> take_in_turn(Wanted& wanted, const sys::Descriptor& fd, const sys::Descriptor& queue,
  const LockRequest& request, const Patience& how)
{
  auto taken = try_at_once(wanted, queue, request);
  if (is_decided(taken)) { return decision(std::move(taken)); }
  Patience patience = how;
  AncestorCheck check(wanted, fd, request, patience, any_touched);
  taken = check.begin();
  if (is_decided(taken)) { return decision(std::move(taken)); }
  if (!may_wait(request)) { return tl::unexpected(Error{Reason::busy, request.path, {}, {}}); }
  kernel::WaitingPlace place(queue);
  if (const auto placed = take_waiting_place(place, request); !placed) { return tl::unexpected(placed.error()); }
  announce_wait(patience, request);
  for (;;) {
    const auto waited = queue_up(wanted, queue, request, patience);
    if (waited) { return wanted.taken(); }
    if (waited.error().reason != Reason::nested) { return tl::unexpected(waited.error()); }
    // The place in the queue is given up even where it turns out that there is something to wait for.
    taken = check.look();
    if (is_decided(taken)) { return decision(std::move(taken)); }
  }
}

} // namespace lockrun
