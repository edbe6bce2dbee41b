#include "lock/place.hpp"

#include "sys/file.hpp"
#include "sys/lock.hpp"
#include "sys/process.hpp"

#include <cerrno>

#include <fcntl.h>

namespace lockrun {
namespace {

constexpr mode_t k_private = 0700;
constexpr mode_t k_others = 0077;
constexpr mode_t k_sticky_for_all = 01777;

Result<std::string, Error> directory_for(uid_t user)
{
  const bool is_root = user == 0;
  const char* const parent = is_root ? "/run" : "/run/lock";
  const auto status = sys::stat(parent);
  if (!status && status.error().code != ENOENT && status.error().code != ENOTDIR) {
    return tl::unexpected(Error{Reason::open_failed, parent, status.error()});
  }
  const bool is_directory = status && status->type == sys::FileType::directory;
  if (is_directory && is_root) { return "/run/lockrun"; }
  const bool is_open_to_all = is_directory && (status->permissions & k_sticky_for_all) == k_sticky_for_all;
  return (is_open_to_all ? "/run/lock/lockrun-" : "/tmp/lockrun-") + std::to_string(user);
}

// A directory of this user's that lacks the owner's permissions: the umask has removed them, from us or from a call
// that has just made it. EACCES: it is somebody else's.
Result<sys::Descriptor> open_closed_directory(const char* path, uid_t user)
{
  const auto named = sys::open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!named) { return tl::unexpected(named.error()); }
  const auto status = sys::fstat(*named);
  if (!status) { return tl::unexpected(status.error()); }
  if (status->owner != user) { return tl::unexpected(SysError{"open", EACCES}); }
  if (const auto changed = sys::change_mode(*named, k_private); !changed) { return tl::unexpected(changed.error()); }
  return sys::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

Result<sys::Descriptor> open_directory(const char* path, uid_t user)
{
  auto opened = sys::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!opened && opened.error().code == EACCES) { return open_closed_directory(path, user); }
  return opened;
}

} // namespace

bool is_name(std::string_view lock)
{
  return lock.starts_with(k_name_prefix);
}

Result<std::string, Error> path_of_name(std::string_view name)
{
  name.remove_prefix(k_name_prefix.size());
  auto path = directory_for(sys::effective_user());
  if (path) { path->append("/").append(name); }
  return path;
}

Result<Place, Error> place_of(std::string_view name)
{
  const uid_t user = sys::effective_user();
  const auto chosen = directory_for(user);
  if (!chosen) { return tl::unexpected(chosen.error()); }
  const std::string& directory = *chosen;
  const auto failed = [&](Reason reason, SysError cause) { return tl::unexpected(Error{reason, directory, cause}); };
  const auto made = sys::mkdir(directory.c_str(), k_private);
  if (!made && made.error().code != EEXIST) { return failed(Reason::open_failed, made.error()); }
  auto fd = open_directory(directory.c_str(), user);
  if (!fd) {
    // Somebody else's link, file or closed directory stands in its place.
    const int code = fd.error().code;
    const bool foreign = code == ELOOP || code == ENOTDIR || code == EACCES;
    return failed(foreign ? Reason::unsafe_place : Reason::open_failed, fd.error());
  }
  const auto status = sys::fstat(*fd);
  if (!status) { return failed(Reason::open_failed, status.error()); }
  if (status->owner != user || (status->permissions & k_others) != 0) { return failed(Reason::unsafe_place, {}); }
  if ((status->permissions & k_private) != k_private) { // the umask
    if (const auto changed = sys::change_mode(*fd, k_private); !changed) {
      return failed(Reason::open_failed, changed.error());
    }
  }
  const auto locked = sys::flock(*fd, Mode::shared, Wait::never);
  if (!locked) { return failed(Reason::lock_failed, locked.error()); }
  // Busy: somebody cleans up just now and holds it exclusively. The lock file's own check afterwards covers that.
  name.remove_prefix(k_name_prefix.size());
  return Place{std::move(*fd), directory + "/" + std::string(name)};
}

bool is_place_gone(const Error& error, const std::string& path, const sys::Descriptor& directory)
{
  if (error.reason != Reason::open_failed || error.cause.code != ENOENT) { return false; }
  const auto ours = sys::fstat(directory);
  const auto named = sys::lstat(path.substr(0, path.rfind('/')).c_str());
  return !ours || !named || ours->identity != named->identity;
}

} // namespace lockrun
