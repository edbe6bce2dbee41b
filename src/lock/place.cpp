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

std::string directory_for(uid_t user)
{
  const auto run_lock = sys::stat("/run/lock");
  const bool is_directory = run_lock && run_lock->type == sys::FileType::directory;
  if (user == 0 && is_directory) { return "/run/lock/lockrun"; }
  const bool open_to_all = is_directory && (run_lock->permissions & k_sticky_for_all) == k_sticky_for_all;
  return (open_to_all ? "/run/lock/lockrun-" : "/tmp/lockrun-") + std::to_string(user);
}

} // namespace

bool is_name(std::string_view lock)
{
  return lock.starts_with(k_name_prefix);
}

std::string path_of_name(std::string_view name)
{
  name.remove_prefix(k_name_prefix.size());
  return directory_for(sys::effective_user()) + "/" + std::string(name);
}

Result<Place, Error> place_of(std::string_view name)
{
  const uid_t user = sys::effective_user();
  const std::string directory = directory_for(user);
  const auto failed = [&](Reason reason, SysError cause) { return tl::unexpected(Error{reason, directory, cause}); };
  const mode_t before = sys::umask(0);
  const auto made = sys::mkdir(directory.c_str(), k_private);
  (void)sys::umask(before);
  if (!made && made.error().code != EEXIST) { return failed(Reason::open_failed, made.error()); }
  auto fd = sys::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!fd) {
    // Somebody else's link, file or closed directory stands in its place.
    const int code = fd.error().code;
    const bool foreign = code == ELOOP || code == ENOTDIR || code == EACCES;
    return failed(foreign ? Reason::unsafe_place : Reason::open_failed, fd.error());
  }
  const auto status = sys::fstat(*fd);
  if (!status) { return failed(Reason::open_failed, status.error()); }
  if (status->owner != user || (status->permissions & k_others) != 0) { return failed(Reason::unsafe_place, {}); }
  const auto locked = sys::flock(*fd, Mode::shared, Wait::never);
  if (!locked) { return failed(Reason::lock_failed, locked.error()); }
  // Busy: somebody cleans up just now and holds it exclusively. The lock file's own check afterwards covers that.
  name.remove_prefix(k_name_prefix.size());
  return Place{std::move(*fd), directory + "/" + std::string(name)};
}

bool is_place_gone(const Error& error)
{
  return error.reason == Reason::open_failed && error.cause.code == ENOENT;
}

} // namespace lockrun
