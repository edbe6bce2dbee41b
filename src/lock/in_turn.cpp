#include "lock/in_turn.hpp"

#include "backends/kernel_lock.hpp"
#include "backends/slots.hpp"

#include <cerrno>
#include <utility>

namespace lockrun {
namespace {

using backends::kernel_locks;
using backends::KernelLock;
using sys::Attempt;

// What we ask for when it is our turn: with slots one of them, and then the lock itself; shared, so that an exclusive
// caller without slots waits for all of them. A slot first, because whoever has the lock keeps others waiting.
class Wanted {
public:
  Wanted(const sys::Descriptor& fd, const LockRequest& request)
    : m_fd(fd), m_request(request), m_mode(request.slots > 0 ? Mode::shared : request.mode)
  {}

  // Goes on where an interruption stopped it; without waiting it is all or none.
  Result<Attempt> ask(Wait wait)
  {
    auto answer = ask_step_by_step(wait);
    const bool goes_on = answer && *answer != Attempt::busy;
    if (!goes_on) { give_back(); }
    return answer;
  }

  void give_back()
  {
    const auto kinds = kernel_locks(m_request.api);
    for (; m_kinds > 0; --m_kinds) { (void)kinds[m_kinds - 1]->unlock(m_fd, m_request.range); }
    if (m_slot) { (void)backends::free_slot(m_fd, *m_slot); }
    m_slot.reset();
  }

  // Whether ask() was busy because all slots are taken.
  bool lacks_slot() const noexcept { return m_lacks_slot; }
  std::optional<int> slot() const noexcept { return m_slot; }

private:
  Result<Attempt> ask_step_by_step(Wait wait)
  {
    m_lacks_slot = m_request.slots > 0 && !m_slot;
    if (m_lacks_slot) {
      const auto slot =
        wait == Wait::never ? backends::try_slot(m_fd, m_request.slots) : backends::wait_slot(m_fd, m_request.slots);
      if (!slot) { return tl::unexpected(slot.error()); }
      if (!*slot) { return wait == Wait::never ? Attempt::busy : Attempt::interrupted; }
      m_slot = *slot;
      m_lacks_slot = false;
    }
    for (const auto kinds = kernel_locks(m_request.api); m_kinds < kinds.size(); ++m_kinds) {
      const auto answer = kinds[m_kinds]->lock(m_fd, m_mode, m_request.range, wait);
      if (!answer || *answer != Attempt::acquired) { return answer; }
    }
    return Attempt::acquired;
  }

  const sys::Descriptor& m_fd;
  const LockRequest& m_request;
  Mode m_mode;
  std::optional<int> m_slot;
  std::size_t m_kinds = 0; // how many of them we have
  bool m_lacks_slot = false;
};

// An ancestor that holds the lock in whatever mode, which everybody does who has a slot.
TreeLocks find_ancestor(const sys::FileIdentity& file, const LockRequest& request)
{
  TreeLocks tree;
  for (const KernelLock* const kind : kernel_locks(request.api)) {
    tree = lock_of_ancestors(file, kind->kind, request.range);
    if (tree.held) { break; }
  }
  return tree;
}

// One of the ancestors that between them have all slots; none if somebody else has one.
std::optional<AncestorHold> find_ancestors_with_all_slots(const sys::FileIdentity& file, int count)
{
  std::optional<AncestorHold> held;
  for (int slot = 0; slot < count; ++slot) {
    held = lock_of_ancestors(file, sys::LockLine::Kind::ofd, backends::byte_of_slot(slot)).held;
    if (!held) { break; }
  }
  return held;
}

// We cannot have it at once. Is it for us to wait for, or is an ancestor of ours in the way?
Result<std::optional<Taken>, Error> look_at_ancestors(
  Wanted& wanted, const sys::FileIdentity& file, const LockRequest& request, Patience& patience)
{
  const auto failed = [&](SysError cause) {
    return tl::unexpected(Error{Reason::lock_failed, request.path, cause, {}});
  };
  auto tree = find_ancestor(file, request);
  patience.tree_has_locks = tree.has_any;
  patience.look_at_tree = nullptr;
  auto ancestor = std::move(tree.held);
  if (!ancestor) { return std::nullopt; }
  // Whoever queues waits for that ancestor, and it for us. So we go before them, if it shares the lock with us.
  const auto attempt = wanted.ask(Wait::never);
  if (!attempt) { return failed(attempt.error()); }
  if (*attempt == Attempt::acquired) { return Taken{Taken::Whose::ours, wanted.slot()}; }
  if (wanted.lacks_slot()) { ancestor = find_ancestors_with_all_slots(file, request.slots); }
  if (!ancestor) { return std::nullopt; }
  return taken_by(std::move(*ancestor), request);
}

Result<void, Error> queue_up(
  Wanted& wanted, const sys::Descriptor& queue, const LockRequest& request, const Patience& patience)
{
  backends::QueuePlace place(queue);
  const auto call = [&]() -> Result<Attempt> {
    auto answer = place.enter();
    if (answer && *answer == Attempt::acquired) { answer = place.wait_turn(); }
    if (answer && *answer == Attempt::acquired) { answer = wanted.ask(Wait::allowed); }
    return answer;
  };
  auto waited = wait_blocking(call, patience, request.path, Reason::lock_failed);
  if (!waited) {
    wanted.give_back(); // the part that we had, or all in the moment in which a signal ended the wait
    // Of a lock it is no error: there can be no thread for each slot.
    Error& error = waited.error();
    if (error.reason == Reason::lock_failed && error.cause.code == EAGAIN) { error.reason = Reason::start_failed; }
  }
  return waited;
}

} // namespace

Result<Taken, Error> take_in_turn(
  const sys::Descriptor& fd, const sys::Descriptor& queue, const LockRequest& request, const Patience& how)
{
  Patience patience = how;
  const auto failed = [&](SysError cause) {
    return tl::unexpected(Error{Reason::lock_failed, request.path, cause, {}});
  };
  Wanted wanted(fd, request);
  const auto queued = backends::look_at_queue(queue);
  if (!queued) { return failed(queued.error()); }
  // Whoever passes the door from now on has come later.
  if (*queued == backends::Queued::nobody) {
    const auto attempt = wanted.ask(Wait::never);
    if (!attempt) { return failed(attempt.error()); }
    if (*attempt == Attempt::acquired) { return Taken{Taken::Whose::ours, wanted.slot()}; }
  }
  const auto file = sys::fstat(fd);
  if (!file) { return failed(file.error()); }
  if (asks_for_ancestors(request)) {
    // With two kinds of locks we may have got the one that stands before the other when we look.
    if (kernel_locks(request.api).size() == 1 && may_look_later(file->identity, request, patience.plan)) {
      patience.look_at_tree = [&] { return find_ancestor(file->identity, request); };
    } else {
      const auto nested = look_at_ancestors(wanted, file->identity, request, patience);
      if (!nested) { return tl::unexpected(nested.error()); }
      if (*nested) { return **nested; }
    }
  }
  if (!may_wait(request)) { return tl::unexpected(Error{Reason::busy, request.path, {}, {}}); }
  backends::WaitingPlace place(queue);
  if (const auto placed = take_waiting_place(place, request); !placed) { return tl::unexpected(placed.error()); }
  if (patience.plan.observer != nullptr) { patience.plan.observer->waiting(request); }
  auto waited = queue_up(wanted, queue, request, patience);
  if (!waited && waited.error().reason == Reason::nested) {
    // The place in the queue is given up even where it turns out that there is something to wait for.
    const auto nested = look_at_ancestors(wanted, file->identity, request, patience);
    if (!nested) { return tl::unexpected(nested.error()); }
    if (*nested) { return **nested; }
    waited = queue_up(wanted, queue, request, patience);
  }
  if (!waited) { return tl::unexpected(waited.error()); }
  return Taken{Taken::Whose::ours, wanted.slot()};
}

} // namespace lockrun
