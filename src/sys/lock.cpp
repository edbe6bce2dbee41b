#include "sys/lock.hpp"

#include "sys/again.hpp"

#include <cerrno>

#include <fcntl.h>
#include <sys/file.h>

namespace lockrun::sys {
namespace {

// A command of fcntl(2) and its name for errors.
struct Command {
  int number;
  const char* name;
};

struct ::flock description_of(short type, const Range& range)
{
  struct ::flock description {};
  description.l_type = type;
  description.l_whence = SEEK_SET;
  description.l_start = range.start;
  description.l_len = range.length;
  return description;
}

struct ::flock description_of(Mode mode, const Range& range)
{
  return description_of(static_cast<short>(mode == Mode::shared ? F_RDLCK : F_WRLCK), range);
}

// Only a blocking attempt is interrupted on purpose; one of the other kind may be by a file server.
template <class Call>
int attempt(const Call& call, Wait wait)
{
  return wait == Wait::allowed ? call() : again(call);
}

Result<Attempt> lock_range(const Descriptor& fd, Command command, Mode mode, const Range& range, Wait wait)
{
  struct ::flock description = description_of(mode, range);
  if (attempt([&] { return ::fcntl(fd.get(), command.number, &description); }, wait) == 0) { return Attempt::acquired; }
  if (errno == EAGAIN || errno == EACCES) { return Attempt::busy; } // fcntl(2) allows either
  if (errno == EINTR && wait == Wait::allowed) { return Attempt::interrupted; }
  return tl::unexpected(SysError{command.name, errno});
}

Result<void> unlock_range(const Descriptor& fd, Command command, const Range& range)
{
  struct ::flock description = description_of(short{F_UNLCK}, range);
  while (::fcntl(fd.get(), command.number, &description) != 0) {
    if (errno != EINTR) { return tl::unexpected(SysError{command.name, errno}); }
  }
  return {};
}

Result<std::optional<Conflict>> conflict_in(const Descriptor& fd, Command command, Mode mode, const Range& range)
{
  struct ::flock description = description_of(mode, range);
  if (again([&] { return ::fcntl(fd.get(), command.number, &description); }) != 0) {
    return tl::unexpected(SysError{command.name, errno});
  }
  if (description.l_type == F_UNLCK) { return std::nullopt; }
  return Conflict{description.l_type == F_RDLCK ? Mode::shared : Mode::exclusive,
    {description.l_start, description.l_len}, description.l_pid};
}

} // namespace

Result<Attempt> flock(const Descriptor& fd, Mode mode, Wait wait)
{
  const int kind = mode == Mode::shared ? LOCK_SH : LOCK_EX;
  const int how = wait == Wait::never ? kind | LOCK_NB : kind;
  if (attempt([&] { return ::flock(fd.get(), how); }, wait) == 0) { return Attempt::acquired; }
  if (errno == EWOULDBLOCK) { return Attempt::busy; }
  if (errno == EINTR && wait == Wait::allowed) { return Attempt::interrupted; }
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
  const Command command =
    blocks ? Command{F_OFD_SETLKW, "fcntl(F_OFD_SETLKW)"} : Command{F_OFD_SETLK, "fcntl(F_OFD_SETLK)"};
  return lock_range(fd, command, mode, range, wait);
}

Result<void> ofd_unlock(const Descriptor& fd, const Range& range)
{
  return unlock_range(fd, {F_OFD_SETLK, "fcntl(F_OFD_SETLK, F_UNLCK)"}, range);
}

Result<Attempt> posix_lock(const Descriptor& fd, Mode mode, const Range& range, Wait wait)
{
  const bool blocks = wait == Wait::allowed;
  const Command command = blocks ? Command{F_SETLKW, "fcntl(F_SETLKW)"} : Command{F_SETLK, "fcntl(F_SETLK)"};
  return lock_range(fd, command, mode, range, wait);
}

Result<void> posix_unlock(const Descriptor& fd, const Range& range)
{
  return unlock_range(fd, {F_SETLK, "fcntl(F_SETLK, F_UNLCK)"}, range);
}

Result<std::optional<Conflict>> posix_conflict(const Descriptor& fd, Mode mode, const Range& range)
{
  return conflict_in(fd, {F_GETLK, "fcntl(F_GETLK)"}, mode, range);
}

Result<std::optional<Conflict>> ofd_conflict(const Descriptor& fd, Mode mode, const Range& range)
{
  return conflict_in(fd, {F_OFD_GETLK, "fcntl(F_OFD_GETLK)"}, mode, range);
}

} // namespace lockrun::sys
