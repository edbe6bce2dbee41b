#include "lock/lock_file.hpp"
#include "lock/look.hpp"
#include "sys/file.hpp"
#include "sys/lock.hpp"

#include <lockrun/status.hpp>

#include <algorithm>
#include <cerrno>

#include <fcntl.h>

namespace lockrun {
namespace {

// How often to look again for a holder that came between the look and the question.
constexpr int k_more_looks = 3;

Result<sys::FileStatus> status_of(const LockRequest& request, const std::string& path)
{
  if (!request.fd) { return sys::stat(path.c_str()); }
  sys::Descriptor fd(*request.fd);
  const auto status = sys::fstat(fd);
  (void)fd.release(); // the caller's
  return status;
}

// By the file system: then there is no such lock on it.
bool is_unsupported(const SysError& error)
{
  return error.code == EINVAL || error.code == ENOSYS || error.code == EOPNOTSUPP;
}

bool is_refused(SysError error)
{
  return error.code == EACCES || error.code == EPERM;
}

// With whatever right this user has.
Result<sys::Descriptor> open_to_ask(const std::string& path)
{
  auto opened = sys::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  if (opened || !is_refused(opened.error())) { return opened; }
  return sys::open(path.c_str(), O_WRONLY | O_NONBLOCK);
}

// The locks that no process that we see holds. Of the caller's descriptor we need one of our own: a lock that it has is
// in the way of no process that shares it. `unknown`: this user may not open the file.
Result<LockState, Error> ask(const LockRequest& request, const std::string& path)
{
  const auto failed = [&](Reason reason, SysError cause) { return tl::unexpected(Error{reason, request.path, cause}); };
  const auto fd = open_to_ask(path);
  if (!fd) {
    if (is_refused(fd.error())) { return LockState::unknown; }
    if (fd.error().code == ENOENT && !request.fd) { return LockState::free; } // it was removed just now
    return failed(Reason::open_failed, fd.error());
  }
  const auto lock = sys::ofd_conflict(*fd, Mode::exclusive, Range{});
  if (!lock && !is_unsupported(lock.error())) { return failed(Reason::lock_failed, lock.error()); }
  if (lock && *lock) { return (*lock)->mode == Mode::exclusive ? LockState::exclusive : LockState::shared; }
  auto attempt = sys::flock(*fd, Mode::exclusive, Wait::never);
  // NFS wants an exclusive lock to be on a file that is open for writing.
  if (!attempt && attempt.error().code == EBADF) { attempt = sys::flock(*fd, Mode::shared, Wait::never); }
  if (!attempt) { return failed(Reason::lock_failed, attempt.error()); }
  if (*attempt != sys::Attempt::acquired) { return LockState::held; }
  (void)sys::flock_unlock(*fd); // closing it frees it as well
  return LockState::free;
}

// Whether a holder was seen with a descriptor of this very file, unless no other file can be meant.
bool is_certain(const LockStatus& seen, const Subject& subject)
{
  return subject.is_unique() || std::any_of(seen.holders.begin(), seen.holders.end(),
                                  [](const Holder& holder) { return holder.evidence == Holder::Evidence::descriptor; });
}

} // namespace

Result<LockStatus, Error> status(const LockRequest& request)
{
  const auto placed = path_of(request);
  if (!placed) { return tl::unexpected(placed.error()); }
  const std::string& path = *placed;
  const auto file = status_of(request, path);
  if (!file) {
    if (file.error().code != ENOENT) {
      const Reason reason = request.fd ? Reason::bad_descriptor : Reason::open_failed;
      return tl::unexpected(Error{reason, request.path, file.error()});
    }
    LockStatus missing;
    missing.state = LockState::free;
    missing.is_missing = true;
    return missing;
  }
  if (const auto refusal = refusal_of(*file)) { return tl::unexpected(Error{*refusal, request.path}); }
  const Subject subject{*file, name_in_locks(request, path, *file)};
  for (int more = k_more_looks;; --more) {
    LockStatus seen = look_at(subject, Detail::full);
    const bool is_known = seen.state != LockState::unknown;
    if (is_known && is_certain(seen, subject)) { return seen; }
    const auto asked = ask(request, path);
    if (!asked && !is_known) { return tl::unexpected(asked.error()); }
    const bool is_free = asked && *asked == LockState::free;
    if (is_free) { seen.holders.clear(); } // what was seen is on another file of that name
    if (!is_known || is_free) { seen.state = *asked; }
    if (is_known) { return seen; }
    const bool has_holder = seen.state != LockState::free && seen.state != LockState::unknown;
    if (more == 0 || !has_holder) { return seen; } // with a holder that came just now the next look sees it
  }
}

} // namespace lockrun
