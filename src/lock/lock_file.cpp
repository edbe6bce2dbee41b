#include "lock/lock_file.hpp"

#include "sys/process.hpp"

#include <cerrno>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/sysmacros.h>

namespace lockrun {
namespace {

// 0666 less umask is what every shell makes.
constexpr mode_t k_default_permissions = 0666;

// The directory part of a path, which a name can be appended to.
std::string directory_of(const std::string& path)
{
  const auto slash = path.rfind('/');
  return slash == path.npos ? "./" : path.substr(0, slash + 1);
}

// Makes the file with exactly these permissions, whatever the umask and the directory's default ACL: it has them before
// it has its name, so that nobody finds it closed. EEXIST: somebody else was there first.
Result<void> make_exactly(const std::string& path, mode_t mode)
{
  if (const auto unnamed = sys::open(directory_of(path).c_str(), O_TMPFILE | O_WRONLY, mode)) {
    if (const auto changed = sys::change_mode(*unnamed, mode); !changed) { return changed; }
    const auto linked = sys::link(*unnamed, path.c_str());
    if (linked || linked.error().code == EEXIST) { return linked; }
  }
  // Not on every file system, and not without /proc: then it has less for an instant.
  const auto made = sys::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NONBLOCK, mode);
  if (!made) { return tl::unexpected(made.error()); }
  const auto changed = sys::change_mode(*made, mode);
  if (!changed) { (void)sys::unlink(path.c_str()); } // ours: O_EXCL
  return changed;
}

// Where a symbolic link leads. Only one of ours or of root's is followed by hand: where strangers may put links, the
// kernel would not follow theirs (proc(5), fs.protected_symlinks).
Result<std::string> behind_link(const std::string& path)
{
  const auto link = sys::open(path.c_str(), O_PATH | O_NOFOLLOW);
  if (!link) { return tl::unexpected(link.error()); }
  const auto status = sys::fstat(*link);
  if (!status) { return tl::unexpected(status.error()); }
  if (status->owner != 0 && status->owner != sys::effective_user()) { return tl::unexpected(SysError{"open", EACCES}); }
  auto target = sys::link_target(*link);
  if (target && !target->starts_with('/')) { target->insert(0, directory_of(path)); }
  return target;
}

// The same for a file to which a link may lead, which O_EXCL and linkat(2) do not follow; and opens it.
Result<sys::Descriptor> create_exactly(std::string path, mode_t mode, int flags)
{
  constexpr int k_most_links = 40; // of path_resolution(7)
  const std::string name = path;
  for (int links = 0; links <= k_most_links; ++links) {
    const auto made = make_exactly(path, mode);
    if (!made && made.error().code != EEXIST) { return tl::unexpected(made.error()); }
    auto opened = sys::open(name.c_str(), flags);
    if (made || opened || opened.error().code != ENOENT || (flags & O_NOFOLLOW) != 0) { return opened; }
    auto target = behind_link(path);
    if (target) { path = std::move(*target); }
    if (!target && target.error().code != ENOENT && target.error().code != EINVAL) {
      return tl::unexpected(target.error());
    }
  }
  return tl::unexpected(SysError{"open", ELOOP});
}

Result<sys::Descriptor> create(const LockRequest& request, int flags)
{
  if (request.file.mode) { return create_exactly(request.path, *request.file.mode, flags); }
  return sys::open(request.path.c_str(), flags | O_CREAT, k_default_permissions);
}

enum class Expected { there, missing };

// Without O_CREAT first: in a sticky directory O_CREAT on somebody else's file is refused (fs.protected_regular,
// proc(5)), plain opening is not. `flags` may lack O_NONBLOCK, then this blocks for a lease.
Result<sys::Descriptor> open_or_create(const LockRequest& request, int flags, Expected expected)
{
  const char* const path = request.path.c_str();
  if (expected == Expected::there) {
    auto opened = sys::open(path, flags);
    if (opened || opened.error().code != ENOENT) { return opened; }
  }
  if (!request.file.create) { return tl::unexpected(SysError{"open", ENOENT}); }
  auto opened = create(request, flags);
  // The name ends with a slash, and we make no directories.
  if (!opened && opened.error().code == EISDIR) { return tl::unexpected(SysError{"open", ENOENT}); }
  // Another user made it in between, in a sticky directory.
  if (!opened && opened.error().code == EACCES) {
    auto again = sys::open(path, flags);
    if (again || again.error().code != ENOENT) { return again; }
  }
  return opened;
}

Error open_error(const LockRequest& request, SysError cause)
{
  // A directory that had to be opened for writing.
  if (cause.code == EISDIR) { return {Reason::wrong_type, request.path, cause}; }
  const bool none = cause.code == ENOENT || cause.code == ENOTDIR || cause.code == ENAMETOOLONG || cause.code == EROFS;
  return {none && !request.file.create ? Reason::missing : Reason::open_failed, request.path, cause};
}

// Blocks in open(2) until the lease is given up; the kernel breaks it after /proc/sys/fs/lease-break-time at the
// latest.
Result<sys::Descriptor, Error> wait_for_lease(const LockRequest& request, int flags, const Patience& patience)
{
  sys::Descriptor opened;
  const auto call = [&]() -> Result<sys::Attempt> {
    auto fd = open_or_create(request, flags & ~O_NONBLOCK, Expected::there);
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
  return cause.code == EACCES && (flags & O_RDWR) != 0 && !queues(request);
}

Result<sys::Descriptor, Error> open_patiently(
  const LockRequest& request, int flags, Expected expected, const Patience& patience)
{
  auto opened = open_or_create(request, flags, expected);
  if (!opened && needs_only_writing(request, flags, opened.error())) {
    return open_patiently(request, flags ^ O_RDWR ^ O_WRONLY, expected, patience);
  }
  if (opened) { return std::move(*opened); }
  if (opened.error().code == EWOULDBLOCK && request.patience != std::chrono::nanoseconds(0)) {
    return wait_for_lease(request, flags, patience);
  }
  return tl::unexpected(open_error(request, opened.error()));
}

bool is_watchdog(const sys::FileStatus& device)
{
  constexpr unsigned k_miscellaneous = 10; // of Linux's devices.txt
  constexpr unsigned k_watchdog = 130;
  if (major(device.special) == k_miscellaneous && minor(device.special) == k_watchdog) { return true; }
  return sys::device_class(device.special).value_or(std::string()) == "watchdog"; // there may be several
}

// /dev/st0 and its like; /dev/nst0 is left where it is when it is closed.
bool is_rewinding_tape(const sys::FileStatus& device)
{
  constexpr unsigned k_tape = 9;
  constexpr unsigned k_without_rewinding = 128;
  return major(device.special) == k_tape && (minor(device.special) & k_without_rewinding) == 0;
}

// What does not fit the request, which the type of the file shows.
std::optional<Error> mismatch(const LockRequest& request, const sys::FileStatus& status)
{
  if (const auto refusal = refusal_of(status)) { return Error{*refusal, request.path}; }
  // The queue writes to nothing, but udev(7) looks at a disk anew whenever somebody has had it open for writing.
  const bool is_device = status.type == sys::FileType::device;
  if (is_device && queues(request)) { return Error{Reason::wrong_type, request.path}; }
  return std::nullopt;
}

Result<LockFile, Error> open_once(const LockRequest& request, Access access, const Patience& patience)
{
  const auto named = sys::stat(request.path.c_str());
  if (named) {
    if (auto unfit = mismatch(request, *named)) { return tl::unexpected(std::move(*unfit)); }
  }
  const bool is_missing = !named && named.error().code == ENOENT;
  const int how = O_NONBLOCK | (request.file.follow ? 0 : O_NOFOLLOW);
  auto fd = open_patiently(request, (access == Access::write ? O_RDWR : O_RDONLY) | how,
    is_missing ? Expected::missing : Expected::there, patience);
  if (!fd) { return tl::unexpected(fd.error()); }
  const auto status = sys::fstat(*fd);
  if (!status) { return tl::unexpected(Error{Reason::open_failed, request.path, status.error()}); }
  if (auto unfit = mismatch(request, *status)) { return tl::unexpected(std::move(*unfit)); } // it was replaced
  return LockFile{std::move(*fd), *status};
}

} // namespace

bool queues(const LockRequest& request)
{
  return request.fair || request.slots > 0 || request.max_waiters;
}

std::optional<Reason> refusal_of(const sys::FileStatus& status)
{
  if (status.type == sys::FileType::other) { return Reason::wrong_type; }
  if (!status.is_character_device) { return std::nullopt; }
  if (is_rewinding_tape(status) || is_watchdog(status)) { return Reason::harmful_device; }
  return std::nullopt;
}

Result<LockFile, Error> open_lock_file(const LockRequest& request, Access access, const Patience& patience)
{
  if (access == Access::write || !has_own_queue_fd(request)) { return open_once(request, access, patience); }
  constexpr int k_most_tries = 100;
  for (int tries = 0; tries < k_most_tries; ++tries) {
    auto queue = open_once(request, Access::write, patience);
    if (!queue) { return queue; }
    auto file = open_once(request, Access::read, patience);
    if (!file) { return file; }
    if (file->status.identity != queue->status.identity) { continue; } // it was replaced in between
    file->own_queue_fd = std::move(queue->fd);
    return file;
  }
  return tl::unexpected(Error{Reason::open_failed, request.path, {"open", ESTALE}});
}

Access access_for(const LockRequest& request)
{
  const bool writes = request.slots > 0 || (request.mode == Mode::exclusive && request.api != Api::flock);
  return writes ? Access::write : Access::read;
}

bool has_own_queue_fd(const LockRequest& request)
{
  return !request.fd && queues(request) && access_for(request) == Access::read;
}

Result<Naming, Error> what_is_named(const LockRequest& request, const sys::FileIdentity& identity)
{
  const auto status = sys::stat(request.path.c_str());
  if (status) { return status->identity == identity ? Naming::same_file : Naming::another_file; }
  if (status.error().code == ENOENT) { return Naming::another_file; }
  return tl::unexpected(Error{Reason::open_failed, request.path, status.error(), {}});
}

} // namespace lockrun
