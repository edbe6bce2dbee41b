#include "sys/lock.hpp"

#include <cerrno>

#include <fcntl.h>
#include <sys/file.h>

namespace lockrun::sys {
namespace {

struct ::flock description_of(short type, const Range& range)
{
  struct ::flock description {};
  description.l_type = type;
  description.l_whence = SEEK_SET;
  description.l_start = range.start;
  description.l_len = range.length;
  return description;
}

} // namespace

Result<Attempt> flock(const Descriptor& fd, Mode mode, Wait wait)
{
  const int kind = mode == Mode::shared ? LOCK_SH : LOCK_EX;
  if (::flock(fd.get(), wait == Wait::never ? kind | LOCK_NB : kind) == 0) { return Attempt::acquired; }
  if (errno == EWOULDBLOCK) { return Attempt::busy; }
  if (errno == EINTR) { return Attempt::interrupted; }
  return tl::unexpected(SysError{"flock", errno});
}

Result<void> flock_unlock(const Descriptor& fd)
{
  while (::flock(fd.get(), LOCK_UN) != 0) {
    if (errno != EINTR) { return tl::unexpected(SysError{"flock(LOCK_UN)", errno}); }
  }
  return {};
}

Result<Attempt> ofd_lock(const Descriptor& fd, Mode mode, const Range& range, Wait wait)
{
  const bool blocks = wait == Wait::allowed;
  struct ::flock description = description_of(mode == Mode::shared ? F_RDLCK : F_WRLCK, range);
  if (::fcntl(fd.get(), blocks ? F_OFD_SETLKW : F_OFD_SETLK, &description) == 0) { return Attempt::acquired; }
  if (errno == EAGAIN || errno == EACCES) { return Attempt::busy; } // fcntl(2) allows either
  if (errno == EINTR) { return Attempt::interrupted; }
  return tl::unexpected(SysError{blocks ? "fcntl(F_OFD_SETLKW)" : "fcntl(F_OFD_SETLK)", errno});
}

Result<void> ofd_unlock(const Descriptor& fd, const Range& range)
{
  struct ::flock description = description_of(F_UNLCK, range);
  while (::fcntl(fd.get(), F_OFD_SETLK, &description) != 0) {
    if (errno != EINTR) { return tl::unexpected(SysError{"fcntl(F_OFD_SETLK, F_UNLCK)", errno}); }
  }
  return {};
}

} // namespace lockrun::sys
