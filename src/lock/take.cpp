#include "lock/take.hpp"

#include "lock/ancestor_check.hpp"
#include "lock/in_turn.hpp"

#include <cerrno>
#include <utility>

namespace lockrun {
namespace {

// Tries, and queues in the kernel.
Result<Taken, Error> take_kinds(Wanted& wanted, const sys::Descriptor& fd, const sys::Descriptor& queue,
  const LockRequest& request, Patience patience)
{
  const auto attempt = wanted.ask(Wait::never);
  if (!attempt) { return tl::unexpected(Error{Reason::lock_failed, request.path, attempt.error(), {}}); }
  if (*attempt == sys::Attempt::acquired) { return wanted.taken(); }
  AncestorCheck check(
    wanted, fd, request, patience, [](const Wanted& asked, const TreeLocks& tree) { return asked.in_the_way(tree); });
  auto nested = check.begin();
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

Result<void, Error> take_waiting_place(kernel::WaitingPlace& place, const LockRequest& request)
{
  if (!request.max_waiters) { return {}; }
  const auto placed = place.take(*request.max_waiters);
  if (!placed) { return tl::unexpected(Error{Reason::lock_failed, request.path, placed.error(), {}}); }
  if (*placed == sys::Attempt::acquired) { return {}; }
  return tl::unexpected(Error{Reason::too_many_waiters, request.path, {}, {}});
}

} // namespace lockrun
