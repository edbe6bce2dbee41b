#pragma once

#include "sys/descriptor.hpp"
#include "sys/lock.hpp"

#include <lockrun/request.hpp>

#include <cstdint>
#include <optional>

namespace lockrun::kernel {

// The bytes above the lock itself (Range's default). Nothing is stored in them: they are only ever locked, and the
// kernel frees what a killed process had. Fixed for ever, because different versions meet in one file.
inline constexpr std::int64_t k_door = std::int64_t{1} << 62;
inline constexpr std::int64_t k_first_slot = k_door + (std::int64_t{1} << 20);
inline constexpr std::int64_t k_first_waiting_place = k_door + (std::int64_t{1} << 21);
inline constexpr std::int64_t k_queue = k_door + (std::int64_t{1} << 40);

// Whether the locks of flock(2) and of fcntl(2) see each other on the file system. Where they do (NFS and a few more
// turn the one into the other) nobody can queue for a flock: its holder's covers the queue, too.
enum class Locks { separate, merged };
Result<Locks> locks_on(const sys::Descriptor& fd);

enum class Queued { nobody, somebody };

// Whether another process stands in the queue now.
Result<Queued> look_at_queue(const sys::Descriptor& fd);

// A place in the queue of a lock file, first come first served: a byte that this process has locked, so /proc/locks
// shows whose it is. Whoever comes locks the byte after the highest locked one; arriving is a matter of one process at
// a time, who holds the door meanwhile. Then it waits for the nearest earlier byte until there is none, asks for the
// lock, and leaves once it has it: a release wakes one waiter.
//
// Such a lock is dropped when the process closes *any* descriptor of the file: nobody opens or closes it while somebody
// stands here. One place for a process and a file at a time.
class QueuePlace {
public:
  explicit QueuePlace(const sys::Descriptor& fd) noexcept : m_fd(&fd) {} // open for reading and writing
  QueuePlace(const QueuePlace&) = delete;
  QueuePlace& operator=(const QueuePlace&) = delete;
  ~QueuePlace() { leave(); }

  // Both block until `acquired`; after `interrupted` call again, the place is kept. To arrive costs little, but the
  // door may be held for long by a process that was stopped on its way through.
  Result<sys::Attempt> enter();
  Result<sys::Attempt> wait_turn();

  // Lets the next one look.
  void leave() noexcept;

  // The byte's number in the queue; none before enter().
  std::optional<std::int64_t> number() const noexcept;

private:
  const sys::Descriptor* m_fd;
  std::optional<std::int64_t> m_own;
  std::optional<std::int64_t> m_ahead; // the nearest earlier byte, as far as we know
};

// One of the first `limit` waiting places of a lock file, a byte that is locked while one waits. It belongs to this
// process on the same terms as a place in the queue: where the descriptor is shared, as one that a shell opened is,
// neither have two processes the same place nor does it outlive the one that took it.
class WaitingPlace {
public:
  explicit WaitingPlace(const sys::Descriptor& fd) noexcept : m_fd(&fd) {} // open for writing
  WaitingPlace(const WaitingPlace&) = delete;
  WaitingPlace& operator=(const WaitingPlace&) = delete;
  ~WaitingPlace() { leave(); }

  // `busy` when all are taken. Does not block.
  Result<sys::Attempt> take(int limit);
  void leave() noexcept;

private:
  const sys::Descriptor* m_fd;
  std::optional<std::int64_t> m_own;
};

} // namespace lockrun::kernel
