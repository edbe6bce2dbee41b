#include "lock/subject.hpp"

#include "lock/lock_line.hpp"
#include "lock/place.hpp"
#include "sys/mount.hpp"

#include <fcntl.h>

namespace lockrun {

bool Subject::includes(const sys::LockLine& line) const
{
  switch (line.kind) {
  case sys::LockLine::Kind::flock:
    return with_flock;
  case sys::LockLine::Kind::ofd:
  case sys::LockLine::Kind::posix:
    return with_ranges && overlap(line, line_of(line.kind, line.mode, range));
  case sys::LockLine::Kind::lease:
    break;
  }
  return false;
}

Result<std::string, Error> path_of(const LockRequest& request)
{
  if (request.fd) { return "/proc/self/fd/" + std::to_string(*request.fd); }
  if (is_name(request.path)) { return path_of_name(request.path); }
  return request.path;
}

sys::FileIdentity name_in_locks(const LockRequest& request, const std::string& path, const sys::FileStatus& file)
{
  if (request.fd) { return sys::identity_in_locks(*request.fd, file.identity); }
  const auto named = sys::open(path.c_str(), O_PATH);
  return named ? sys::identity_in_locks(named->get(), file.identity) : file.identity;
}

} // namespace lockrun
