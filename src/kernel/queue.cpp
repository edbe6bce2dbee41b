#include "kernel/queue.hpp"

#include "sys/file.hpp"

#include <algorithm>
#include <cerrno>
#include <limits>

namespace lockrun::kernel {
namespace {

using std::int64_t;
using sys::Attempt;

constexpr int64_t k_end_of_file = std::numeric_limits<int64_t>::max();

Range byte(int64_t offset)
{
  return {offset, 1};
}

// From `first` to `last`, both included.
Range bytes(int64_t first, int64_t last)
{
  return {first, last == k_end_of_file ? 0 : last - first + 1};
}

int64_t last_of(const Range& range)
{
  return range.length == 0 ? k_end_of_file : range.start + (range.length - 1);
}

// A byte of the range that another process has locked, of each lock the last one; any of them.
Result<std::optional<int64_t>> locked_in(const sys::Descriptor& fd, int64_t first, int64_t last)
{
  const auto conflict = sys::posix_conflict(fd, Mode::exclusive, bytes(first, last));
  if (!conflict) { return tl::unexpected(conflict.error()); }
  if (!*conflict) { return std::nullopt; }
  return std::min(last_of((*conflict)->range), last);
}

// The highest byte of the range that another process has locked. The kernel names any one, as a rule the oldest, and
// each answer costs it a walk along all locks of the file: so we ask above it in steps that double, until nothing is
// there, and halve the rest.
Result<std::optional<int64_t>> highest_locked_in(const sys::Descriptor& fd, int64_t first, int64_t last)
{
  auto highest = locked_in(fd, first, last);
  if (!highest || !*highest) { return highest; }
  int64_t step = 1;
  bool is_bounded = false;
  while (**highest < last) {
    const int64_t from = **highest + std::min(step, last - **highest);
    const auto higher = locked_in(fd, from, last);
    if (!higher) { return higher; }
    if (*higher) {
      highest = higher;
    } else {
      last = from - 1;
      is_bounded = true;
    }
    if (is_bounded) {
      step = (last - **highest + 1) / 2;
    } else if (step < k_end_of_file / 2) {
      step *= 2;
    }
  }
  return highest;
}

} // namespace

Result<Locks> locks_on(const sys::Descriptor& fd)
{
  // From <linux/magic.h> and, what that lacks, from the kernel's source and Lustre's.
  constexpr std::uint32_t k_nfs = 0x6969;
  constexpr std::uint32_t k_smb = 0x517B;
  constexpr std::uint32_t k_cifs = 0xFF534D42;
  constexpr std::uint32_t k_smb2 = 0xFE534D42;
  constexpr std::uint32_t k_plan9 = 0x01021997;
  constexpr std::uint32_t k_afs = 0x5346414F;
  constexpr std::uint32_t k_lustre = 0x0BD00BD0;
  constexpr std::uint32_t k_merging[] = {k_nfs, k_smb, k_cifs, k_smb2, k_plan9, k_afs, k_lustre};
  const auto type = sys::file_system_type(fd);
  if (!type) { return tl::unexpected(type.error()); }
  const bool merges = std::find(std::begin(k_merging), std::end(k_merging), *type) != std::end(k_merging);
  return merges ? Locks::merged : Locks::separate;
}

Result<Queued> look_at_queue(const sys::Descriptor& fd)
{
  const auto locked = locked_in(fd, k_queue, k_end_of_file);
  if (!locked) { return tl::unexpected(locked.error()); }
  return *locked ? Queued::somebody : Queued::nobody;
}

Result<Attempt> QueuePlace::enter()
{
  if (m_own) { return Attempt::acquired; }
  const auto opened = sys::posix_lock(*m_fd, Mode::exclusive, byte(k_door), Wait::allowed);
  if (!opened || *opened != Attempt::acquired) { return opened; }
  const auto highest = highest_locked_in(*m_fd, k_queue, k_end_of_file);
  Result<Attempt> arrived = Attempt::busy;
  int64_t own = k_queue;
  if (!highest) {
    arrived = tl::unexpected(highest.error());
  } else if (*highest == k_end_of_file) {
    arrived = tl::unexpected(SysError{"fcntl(F_GETLK)", EOVERFLOW}); // somebody else's lock, up to the end of the file
  } else {
    own = *highest ? **highest + 1 : k_queue;
    arrived = sys::posix_lock(*m_fd, Mode::exclusive, byte(own), Wait::never);
  }
  (void)sys::posix_unlock(*m_fd, byte(k_door)); // can fail for a closed descriptor only
  if (arrived && *arrived == Attempt::acquired) {
    m_own = own;
    m_ahead = *highest;
  }
  return arrived;
}

Result<Attempt> QueuePlace::wait_turn()
{
  while (m_ahead) {
    const auto gone = sys::posix_lock(*m_fd, Mode::shared, byte(*m_ahead), Wait::allowed);
    if (!gone || *gone != Attempt::acquired) { return gone; }
    (void)sys::posix_unlock(*m_fd, byte(*m_ahead)); // a locked byte is one who waits
    // It had its turn, or gave up, or was killed: then others may still be ahead of us.
    const auto ahead = highest_locked_in(*m_fd, k_queue, *m_own - 1);
    if (!ahead) { return tl::unexpected(ahead.error()); }
    m_ahead = *ahead;
  }
  return Attempt::acquired;
}

void QueuePlace::leave() noexcept
{
  if (m_own) { (void)sys::posix_unlock(*m_fd, byte(*m_own)); } // can fail for a closed descriptor only
  m_own.reset();
  m_ahead.reset();
}

std::optional<int64_t> QueuePlace::number() const noexcept
{
  return m_own ? std::optional(*m_own - k_queue) : std::nullopt;
}

Result<Attempt> WaitingPlace::take(int limit)
{
  if (m_own) { return Attempt::acquired; }
  for (int i = 0; i < limit; ++i) {
    const int64_t offset = k_first_waiting_place + i;
    const auto taken = sys::posix_lock(*m_fd, Mode::exclusive, byte(offset), Wait::never);
    if (!taken) { return taken; }
    if (*taken == Attempt::acquired) {
      m_own = offset;
      return taken;
    }
  }
  return Attempt::busy;
}

void WaitingPlace::leave() noexcept
{
  if (m_own) { (void)sys::posix_unlock(*m_fd, byte(*m_own)); } // can fail for a closed descriptor only
  m_own.reset();
}

} // namespace lockrun::kernel
