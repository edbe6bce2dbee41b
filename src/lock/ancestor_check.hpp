#pragma once

#include "lock/nested.hpp"
#include "lock/wait.hpp"
#include "lock/wanted.hpp"
#include "sys/descriptor.hpp"

#include <lockrun/lock.hpp>

#include <optional>

namespace lockrun {

// The lock is busy. Finds out whether it is for us to wait for it: usually an ancestor of ours that holds it waits for
// us to end.
class AncestorCheck {
public:
  // The lock of our tree that we would wait for; null: there is none.
  using InTheWay = const AncestorLock* (*)(const Wanted&, const TreeLocks&);

  // All of these have to live as long as the wait. `patience` is told what the wait should look for.
  AncestorCheck(Wanted& wanted, const sys::Descriptor& fd, const LockRequest& request, Patience& patience,
    InTheWay in_the_way) noexcept
    : m_wanted(wanted), m_fd(fd), m_request(request), m_patience(patience), m_in_the_way(in_the_way)
  {}

  // Looks, where that matters; or has the wait do so, which costs nothing when the lock is acquired soon. If our tree
  // holds some of what is busy, tries once more, before all who queue, because they wait for our ancestor and it waits
  // for us; with Nested::run only for what the ancestors' locks do not cover, also later. Fails when one of these is in
  // our way; none: it is for us to wait for.
  Result<std::optional<Taken>, Error> begin();

  // The same, at once: while it waited the call has found a lock of our tree in its way.
  Result<std::optional<Taken>, Error> look();

private:
  TreeLook look_while_waiting() const;
  bool may_look_later() const;
  Result<std::optional<Taken>, Error> go_before_ancestors(const TreeLocks& tree);

  Wanted& m_wanted;
  const sys::Descriptor& m_fd;
  const LockRequest& m_request;
  Patience& m_patience;
  InTheWay m_in_the_way;
};

} // namespace lockrun
