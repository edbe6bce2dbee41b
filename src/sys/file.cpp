#include "sys/file.hpp"

#include "sys/again.hpp"

#include <cerrno>
#include <climits>

#include <csignal>

#include <poll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace lockrun::sys {
namespace {

FileStatus status_of(const struct ::stat& raw)
{
  FileStatus status;
  status.identity = {raw.st_dev, raw.st_ino};
  if (S_ISREG(raw.st_mode)) { status.type = FileType::regular; }
  if (S_ISDIR(raw.st_mode)) { status.type = FileType::directory; }
  if (S_ISBLK(raw.st_mode) || S_ISCHR(raw.st_mode)) {
    status.type = FileType::device;
    status.special = raw.st_rdev;
    status.is_character_device = S_ISCHR(raw.st_mode);
  }
  status.permissions = raw.st_mode & 07777U;
  status.owner = raw.st_uid;
  status.links = raw.st_nlink;
  status.size = raw.st_size;
  return status;
}

// Of write(2).
SysError write_error()
{
  const int code = errno;
  if (code == EPIPE || code == EFBIG) {
    ::sigset_t sent;
    ::sigemptyset(&sent);
    ::sigaddset(&sent, code == EPIPE ? SIGPIPE : SIGXFSZ);
    const ::timespec at_once{};
    (void)::sigtimedwait(&sent, nullptr, &at_once); // there is none if it is ignored
  }
  return {"write", code};
}

Result<std::size_t> write_once(int fd, std::string_view text)
{
  for (;;) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written >= 0) { return static_cast<std::size_t>(written); }
    if (errno != EINTR) { return tl::unexpected(write_error()); }
  }
}

// Whether `fd` takes something now, or fails at once.
Result<void> wait_for_room(int fd, std::chrono::milliseconds patience)
{
  pollfd room{fd, POLLOUT, 0};
  const int answer = again([&] { return ::poll(&room, 1, static_cast<int>(patience.count())); });
  // EINVAL: no file at all may be open (RLIMIT_NOFILE), which keeps from asking and not from writing.
  if (answer < 0 && errno != EINVAL) { return tl::unexpected(SysError{"poll", errno}); }
  if (answer == 0) { return tl::unexpected(SysError{"write", EAGAIN}); }
  return {};
}

Result<void> write_all(int fd, std::string_view text)
{
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {
      // Somebody made it non-blocking, and its pipe or terminal is full.
      pollfd room{fd, POLLOUT, 0};
      if (::poll(&room, 1, -1) < 0 && errno != EINTR) { return tl::unexpected(SysError{"poll", errno}); }
    } else if (errno != EINTR) {
      return tl::unexpected(write_error());
    }
  }
  return {};
}

// What a descriptor leads to, as a name for calls that take none (proc(5)).
std::string path_of(const Descriptor& fd)
{
  return "/proc/self/fd/" + std::to_string(fd.get());
}

Result<std::string> read_link(int directory, const char* name)
{
  std::string target(PATH_MAX, '\0');
  const ssize_t size = again([&] { return ::readlinkat(directory, name, target.data(), target.size()); });
  if (size < 0) { return tl::unexpected(SysError{"readlinkat", errno}); }
  target.resize(static_cast<std::size_t>(size));
  return target;
}

} // namespace

Result<Descriptor> open(const char* path, int flags, mode_t mode)
{
  const int fd = again([&] { return ::open(path, flags | O_CLOEXEC | O_NOCTTY, mode); });
  if (fd < 0) { return tl::unexpected(SysError{"open", errno}); }
  return Descriptor(fd);
}

Result<FileStatus> fstat(const Descriptor& fd)
{
  struct ::stat raw {};
  if (again([&] { return ::fstat(fd.get(), &raw); }) != 0) { return tl::unexpected(SysError{"fstat", errno}); }
  return status_of(raw);
}

Result<FileStatus> stat(const char* path)
{
  struct ::stat raw {};
  if (again([&] { return ::stat(path, &raw); }) != 0) { return tl::unexpected(SysError{"stat", errno}); }
  return status_of(raw);
}

Result<FileStatus> lstat(const char* path)
{
  struct ::stat raw {};
  if (again([&] { return ::lstat(path, &raw); }) != 0) { return tl::unexpected(SysError{"lstat", errno}); }
  return status_of(raw);
}

Result<void> access(const char* path, int how)
{
  if (::faccessat(AT_FDCWD, path, how, AT_EACCESS) != 0) { return tl::unexpected(SysError{"faccessat", errno}); }
  return {};
}

Result<std::string> beginning_of(const char* path, std::size_t bytes)
{
  const auto fd = open(path, O_RDONLY | O_NONBLOCK);
  if (!fd) { return tl::unexpected(fd.error()); }
  std::string text(bytes, '\0');
  const ssize_t count = ::pread(fd->get(), text.data(), text.size(), 0);
  if (count < 0) { return tl::unexpected(SysError{"pread", errno}); }
  text.resize(static_cast<std::size_t>(count));
  return text;
}

Result<std::uint32_t> file_system_type(const Descriptor& fd)
{
  struct ::statfs raw {};
  if (again([&] { return ::fstatfs(fd.get(), &raw); }) != 0) { return tl::unexpected(SysError{"fstatfs", errno}); }
  return static_cast<std::uint32_t>(raw.f_type);
}

Result<void> unlink(const char* path)
{
  if (again([&] { return ::unlink(path); }) != 0) { return tl::unexpected(SysError{"unlink", errno}); }
  return {};
}

Result<void> link(const Descriptor& fd, const char* path)
{
  // With AT_EMPTY_PATH instead it would take a privilege, CAP_DAC_READ_SEARCH (open(2), O_TMPFILE).
  const std::string unnamed = path_of(fd);
  if (again([&] { return ::linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, path, AT_SYMLINK_FOLLOW); }) != 0) {
    return tl::unexpected(SysError{"linkat", errno});
  }
  return {};
}

Result<void> change_mode(const Descriptor& fd, mode_t mode)
{
  if (again([&] { return ::fchmod(fd.get(), mode); }) == 0) { return {}; }
  if (errno == EBADF && again([&] { return ::chmod(path_of(fd).c_str(), mode); }) == 0) { return {}; } // O_PATH
  return tl::unexpected(SysError{"fchmod", errno});
}

Result<std::string> link_target(const Descriptor& fd)
{
  return read_link(fd.get(), "");
}

Result<std::string> device_class(dev_t device)
{
  const std::string name = std::to_string(major(device)) + ":" + std::to_string(minor(device));
  auto target = read_link(AT_FDCWD, ("/sys/dev/char/" + name + "/subsystem").c_str());
  if (target) { target->erase(0, target->rfind('/') + 1); }
  return target;
}

Result<void> mkdir(const char* path, mode_t mode)
{
  if (again([&] { return ::mkdir(path, mode); }) != 0) { return tl::unexpected(SysError{"mkdir", errno}); }
  return {};
}

Result<void> rmdir(const char* path)
{
  if (::rmdir(path) != 0) { return tl::unexpected(SysError{"rmdir", errno}); }
  return {};
}

Result<Descriptor> duplicate(int fd, int lowest)
{
  const int copy = again([&] { return ::fcntl(fd, F_DUPFD_CLOEXEC, lowest); });
  if (copy < 0) { return tl::unexpected(SysError{"fcntl(F_DUPFD_CLOEXEC)", errno}); }
  return Descriptor(copy);
}

Result<void> let_inherit(const Descriptor& fd)
{
  if (::fcntl(fd.get(), F_SETFD, 0) != 0) { return tl::unexpected(SysError{"fcntl(F_SETFD)", errno}); }
  return {};
}

Result<void> seek(const Descriptor& fd, std::int64_t offset)
{
  if (::lseek(fd.get(), offset, SEEK_SET) < 0) { return tl::unexpected(SysError{"lseek", errno}); }
  return {};
}

Result<std::size_t> write(const Descriptor& fd, std::string_view bytes)
{
  return write_once(fd.get(), bytes);
}

Result<std::size_t> offer(const Descriptor& fd, std::string_view text, std::chrono::milliseconds patience)
{
  if (const auto room = wait_for_room(fd.get(), patience); !room) { return tl::unexpected(room.error()); }
  return write_once(fd.get(), text);
}

Result<void> write_standard_error(std::string_view text)
{
  return write_all(STDERR_FILENO, text);
}

Result<void> offer_standard_error(std::string_view text, std::chrono::milliseconds patience)
{
  while (!text.empty()) {
    if (const auto room = wait_for_room(STDERR_FILENO, patience); !room) { return room; }
    const auto written = write_once(STDERR_FILENO, text.substr(0, PIPE_BUF)); // for more there may be no room
    if (!written) { return tl::unexpected(written.error()); }
    text.remove_prefix(*written);
  }
  return {};
}

Result<void> write_standard_output(std::string_view text)
{
  return write_all(STDOUT_FILENO, text);
}

Result<unsigned> closed_standard_descriptors()
{
  pollfd standard[] = {{0, 0, 0}, {1, 0, 0}, {2, 0, 0}};
  if (again([&] { return ::poll(standard, 3, 0); }) < 0) {
    // EINVAL: these are more than the limit allows to open (RLIMIT_NOFILE).
    return tl::unexpected(errno == EINVAL ? SysError{"open", EMFILE} : SysError{"poll", errno});
  }
  unsigned closed = 0;
  for (unsigned i = 0; i < 3; ++i) {
    if ((standard[i].revents & POLLNVAL) != 0) { closed |= 1U << i; }
  }
  return closed;
}

} // namespace lockrun::sys
