#include "lock/lock_file.hpp"

#include <cerrno>
#include <optional>

#include <fcntl.h>

namespace lockrun {
namespace {

// 0666 less umask is what every shell makes.
constexpr mode_t k_default_permissions = 0666;

// Without O_CREAT first: in a sticky directory O_CREAT on somebody else's file is refused (fs.protected_regular,
// proc(5)), plain opening is not. `flags` may lack O_NONBLOCK, then this blocks for a lease.
Result<sys::Descriptor> open_or_create(const LockRequest& request, int flags)
{
  const char* const path = request.path.c_str();
  auto opened = sys::open(path, flags);
  if (opened || opened.error().code != ENOENT || !request.file.create) { return opened; }
  if (request.file.mode) {
    const mode_t before = sys::umask(0);
    opened = sys::open(path, flags | O_CREAT, *request.file.mode);
    (void)sys::umask(before);
  } else {
    opened = sys::open(path, flags | O_CREAT, k_default_permissions);
  }
  // The name ends with a slash, and we make no directories.
  if (!opened && opened.error().code == EISDIR) { return tl::unexpected(SysError{"open", ENOENT}); }
  // Another user made it in between, in a sticky directory.
  if (!opened && opened.error().code == EACCES) {
    auto again = sys::open(path, flags);
    if (again || again.error().code != ENOENT) { return again; }
  }
  return opened;
}

// Beside the lock itself: see backends/queue and backends/slots.
bool locks_bytes(const LockRequest& request)
{
  return request.fair || request.slots > 0 || request.max_waiters;
}

Error open_error(const LockRequest& request, SysError cause)
{
  // A directory that had to be opened for writing.
  if (cause.code == EISDIR) { return {Reason::wrong_type, request.path, cause}; }
  // A socket, or a device that nothing stands behind (open(2)): to those who lock devices the kernel says it best.
  const bool is_other = cause.code == ENXIO || cause.code == ENODEV;
  if (is_other && !request.file.devices) { return {Reason::wrong_type, request.path, {}}; }
  const bool none = cause.code == ENOENT || cause.code == ENOTDIR || cause.code == ENAMETOOLONG || cause.code == EROFS;
  return {none && !request.file.create ? Reason::missing : Reason::open_failed, request.path, cause};
}

// Blocks in open(2) until the lease is given up; the kernel breaks it after /proc/sys/fs/lease-break-time at the
// latest.
Result<sys::Descriptor, Error> open_behind_lease(const LockRequest& request, int flags, const Patience& patience)
{
  sys::Descriptor opened;
  const auto call = [&]() -> Result<sys::Attempt> {
    auto fd = open_or_create(request, flags & ~O_NONBLOCK);
    if (!fd) { return tl::unexpected(fd.error()); }
    opened = std::move(*fd);
    return sys::Attempt::acquired;
  };
  const auto waited = wait_blocking(call, patience, request.path, Reason::open_failed);
  if (!waited) { return tl::unexpected(waited.error()); }
  return opened;
}

// An exclusive lock on bytes needs no right to read; only the queues do.
bool needs_only_writing(const LockRequest& request, int flags, SysError cause)
{
  return cause.code == EACCES && (flags & O_RDWR) != 0 && !locks_bytes(request);
}

Result<sys::Descriptor, Error> open_patiently(const LockRequest& request, int flags, const Patience& patience)
{
  auto opened = open_or_create(request, flags);
  if (!opened && needs_only_writing(request, flags, opened.error())) {
    flags ^= O_RDWR ^ O_WRONLY;
    opened = open_or_create(request, flags);
  }
  if (opened) { return std::move(*opened); }
  if (opened.error().code == EWOULDBLOCK && request.patience != std::chrono::nanoseconds(0)) {
    return open_behind_lease(request, flags, patience);
  }
  return tl::unexpected(open_error(request, opened.error()));
}

bool is_lockable(sys::FileType type, const FileRules& rules)
{
  if (type == sys::FileType::device) { return rules.devices; }
  return type != sys::FileType::other;
}

} // namespace

Result<LockFile, Error> open_lock_file(const LockRequest& request, Access access, const Patience& patience)
{
  const int flags = (access == Access::write ? O_RDWR : O_RDONLY) | O_NONBLOCK | (request.file.follow ? 0 : O_NOFOLLOW);
  auto fd = open_patiently(request, flags, patience);
  if (!fd) { return tl::unexpected(fd.error()); }
  const auto status = sys::fstat(*fd);
  if (!status) { return tl::unexpected(Error{Reason::open_failed, request.path, status.error()}); }
  if (!is_lockable(status->type, request.file)) { return tl::unexpected(Error{Reason::wrong_type, request.path, {}}); }
  return LockFile{std::move(*fd), *status};
}

Access access_for(const LockRequest& request)
{
  const bool writes = locks_bytes(request) || (request.mode == Mode::exclusive && request.api != Api::flock);
  return writes ? Access::write : Access::read;
}

Result<Naming, Error> what_is_named(const LockRequest& request, const sys::FileIdentity& identity)
{
  const auto status = sys::stat(request.path.c_str());
  if (status) { return status->identity == identity ? Naming::same_file : Naming::another_file; }
  if (status.error().code == ENOENT) { return Naming::another_file; }
  return tl::unexpected(Error{Reason::open_failed, request.path, status.error(), {}});
}

} // namespace lockrun
