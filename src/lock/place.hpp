#pragma once

#include "sys/descriptor.hpp"

#include <lockrun/error.hpp>

#include <string>
#include <string_view>

namespace lockrun {

// Where the lock file of `name:NAME` lies: a private directory of this user's, the same from a cron job and from a
// login shell because nothing in the environment decides it.
struct Place {
  sys::Descriptor directory; // locked shared while in use: systemd-tmpfiles(8) spares it then
  std::string path;
};

// What a lock that is a name begins with.
inline constexpr std::string_view k_name_prefix = "name:";

// Whether `lock` is written as name:NAME.
bool is_name(std::string_view lock);

// The file of `name`, which is written as name:NAME. It need not exist. Reasons: open_failed.
Result<std::string, Error> path_of_name(std::string_view name);

// Makes the directory when it is missing. root: /run/lockrun, because /run/lock is open to all; others:
// /run/lock/lockrun-UID where /run/lock is sticky and world-writable. /tmp/lockrun-UID only where there is no such
// place: after any other error another call might choose the other place, and both would hold the lock. Reasons:
// unsafe_place, open_failed, lock_failed.
Result<Place, Error> place_of(std::string_view name);

// Whether what opens the file at `path`, in `directory`, failed because the directory has been removed since place_of()
// made it: it is to be made again then. A link to nowhere in it is no such reason.
bool is_place_gone(const Error& error, const std::string& path, const sys::Descriptor& directory);

} // namespace lockrun
