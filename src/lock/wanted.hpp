#pragma once

#include "kernel/kernel_lock.hpp"
#include "lock/nested.hpp"
#include "sys/descriptor.hpp"
#include "sys/lock.hpp"
#include "sys/proc.hpp"

#include <lockrun/request.hpp>

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace lockrun {

// What there is to hold at the end. With Nested::run parts of it, or all, may be left to the locks of our ancestors.
struct Taken {
  std::optional<Api> api{};                                 // none: all of it is theirs
  bool is_complete = true;                                  // nothing is left to them
  std::array<std::optional<std::vector<Range>>, 2> parts{}; // of flock and ofd, those that are ours; none: all
  std::optional<int> slot{};                                // with request.slots
  std::vector<sys::LockLine> before{}; // what the caller's descriptor had, and keeps at the release
  bool is_ours() const noexcept { return api || slot; }
};

// What is to be locked on an open file for a request, step by step: with slots one of them; then the lock itself, of
// one kind or of both; shared with slots, so that an exclusive caller without slots waits for all of them. A slot
// first, because whoever has the lock keeps others waiting.
class Wanted {
public:
  Wanted(const sys::Descriptor& fd, const LockRequest& request);

  // Goes on where an interruption stopped it; without waiting it is all or none.
  Result<sys::Attempt> ask(Wait wait);

  // Frees what we have got. A descriptor of the caller's has again what it had before, where the kernel lets it.
  void give_back();

  // Leaves to the locks of our tree what they cover. To be called while we have nothing.
  void leave_out(const TreeLocks& tree);

  // Whether what was left to the locks of our tree when `taken` was had is still theirs.
  bool is_still_right(const Taken& taken, const TreeLocks& tree);

  // The lock of our tree that keeps us from the rest; null: none does. Slots are in our way if the tree has all of them
  // and we have none.
  const AncestorLock* in_the_way(const TreeLocks& tree) const;

  // Whether our tree has any lock on what the request asks for, in whatever mode.
  bool is_touched_by(const TreeLocks& tree) const;

  std::optional<int> slot() const noexcept { return m_slot; }
  Taken taken() const;

  // Whether the kernel has taken a shared flock from the caller's descriptor because it could not be made exclusive
  // (flock(2): the conversion is not atomic).
  bool has_lost_shared() const;

private:
  struct Step {
    const kernel::KernelLock* kind;
    const Range* range;
  };
  std::span<const Range> ranges_of(const kernel::KernelLock& kind) const;
  std::optional<Step> step(std::size_t number) const;
  Result<sys::Attempt> ask_step_by_step(Wait wait);
  const AncestorLock* slot_in_the_way(const TreeLocks& tree) const;

  const sys::Descriptor& m_fd;
  const LockRequest& m_request;
  Mode m_mode;
  bool m_wants_slot;
  bool m_leaves_out = false;
  std::array<std::optional<std::vector<Range>>, 2> m_left{}; // of flock and ofd, what is left for us; none: all
  std::vector<sys::LockLine> m_before;                       // of the caller's descriptor
  std::optional<int> m_slot;
  std::size_t m_steps = 0; // so many of them are done
};

// Frees `range` of one kind, but for what `before` says, which the descriptor then has again.
Result<void> unlock_but(const sys::Descriptor& fd, const kernel::KernelLock& kind, const Range& range,
  const std::vector<sys::LockLine>& before);

} // namespace lockrun
