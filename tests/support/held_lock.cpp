#include "support/held_lock.hpp"

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

int open_for_locking(const std::filesystem::path& path)
{
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) { fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC); } // a directory
  if (fd < 0) { throw std::system_error(errno, std::generic_category(), path); }
  return fd;
}

bool change_range(int fd, short type, LockKind kind, const Range& range)
{
  struct ::flock description {};
  description.l_type = type;
  description.l_whence = SEEK_SET;
  description.l_start = range.start;
  description.l_len = range.length;
  return ::fcntl(fd, kind == LockKind::ofd ? F_OFD_SETLK : F_SETLK, &description) == 0;
}

bool try_lock(int fd, Mode mode, LockKind kind, const Range& range)
{
  if (kind == LockKind::flock) { return ::flock(fd, (mode == Mode::shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0; }
  return change_range(fd, mode == Mode::shared ? F_RDLCK : F_WRLCK, kind, range);
}

void unlock(int fd)
{
  (void)::flock(fd, LOCK_UN); // whichever it was, the others are not there to be freed
  (void)change_range(fd, F_UNLCK, LockKind::ofd, {0, 0});
  (void)change_range(fd, F_UNLCK, LockKind::posix, {0, 0});
}

int locked_descriptor(const std::filesystem::path& path, Mode mode, LockKind kind, const Range& range)
{
  const int fd = open_for_locking(path);
  if (!try_lock(fd, mode, kind, range)) {
    const int code = errno;
    ::close(fd);
    throw std::system_error(code, std::generic_category(), "cannot lock " + path.string());
  }
  return fd;
}

// Before there is a lock: a posix one would be gone with any descriptor of the file.
void close_all_but(int one, int other)
{
  const auto low = static_cast<unsigned>(std::min(one, other));
  const auto high = static_cast<unsigned>(std::max(one, other));
  if (low > 3) { ::close_range(3, low - 1, 0); }
  if (high > low + 1) { ::close_range(low + 1, high - 1, 0); }
  ::close_range(high + 1, ~0U, 0);
}

} // namespace

const char* name_of(LockKind kind)
{
  switch (kind) {
  case LockKind::flock:
    return "flock";
  case LockKind::ofd:
    return "ofd";
  case LockKind::posix:
    break;
  }
  return "posix";
}

HeldLock::HeldLock(const std::filesystem::path& path, Mode mode, LockKind kind, const Range& range)
  : m_fd(locked_descriptor(path, mode, kind, range))
{}

HeldLock::~HeldLock()
{
  release();
}

void HeldLock::release() noexcept
{
  if (m_fd < 0) { return; }
  unlock(m_fd);
  ::close(std::exchange(m_fd, -1));
}

HoldingProcess::HoldingProcess(const std::filesystem::path& path, Mode mode, LockKind kind, const Range& range)
  : m_process([&] {
      close_all_but(m_end.read_end(), m_held.write_end());
      (void)locked_descriptor(path, mode, kind, range);
      m_held.give();
      m_end.wait();
      return 0;
    })
{
  if (!m_held.await()) { throw std::runtime_error("no process that holds " + path.string()); }
}

void HoldingProcess::release()
{
  m_end.give();
  (void)m_process.wait();
}

void HoldingProcess::kill()
{
  (void)m_process.kill();
}

bool is_free(const std::filesystem::path& path, Mode mode, LockKind kind, const Range& range)
{
  const int fd = open_for_locking(path);
  const bool locked = try_lock(fd, mode, kind, range);
  ::close(fd);
  return locked;
}

} // namespace lockrun::testing
