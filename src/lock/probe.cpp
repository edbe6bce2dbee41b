#include "lock/probe.hpp"

#include "kernel/kernel_lock.hpp"
#include "lock/place.hpp"
#include "sys/file.hpp"
#include "sys/lock.hpp"
#include "sys/process.hpp"

#include <cerrno>
#include <optional>
#include <utility>

#include <fcntl.h>

namespace lockrun {
namespace {

using Outcome = ProbedLock::Outcome;
using sys::Attempt;

// The same file, opened twice.
struct Pair {
  sys::Descriptor one;
  sys::Descriptor other;
  sys::FileType type = sys::FileType::regular;
  bool is_writable = true;
};

Result<Attempt> try_lock(const kernel::KernelLock& kind, const sys::Descriptor& fd)
{
  return kind.lock(fd, Mode::exclusive, Range{}, Wait::never);
}

// Busy at the first attempt: somebody else has it.
Result<ProbedLock, Attempt> try_out(const kernel::KernelLock& kind, const Pair& files)
{
  const auto first = try_lock(kind, files.one);
  if (!first) { return ProbedLock{Outcome::refused, first.error()}; }
  if (*first != Attempt::acquired) { return tl::unexpected(*first); }
  const auto second = try_lock(kind, files.other);
  if (!second) { return ProbedLock{Outcome::refused, second.error()}; }
  (void)kind.unlock(files.one, Range{}); // what comes of it is tried next
  if (*second == Attempt::acquired) {
    (void)kind.unlock(files.other, Range{});
    return ProbedLock{Outcome::does_not_exclude, {}};
  }
  const auto third = try_lock(kind, files.other);
  if (!third) { return ProbedLock{Outcome::refused, third.error()}; }
  (void)kind.unlock(files.other, Range{});
  return ProbedLock{*third == Attempt::acquired ? Outcome::excludes : Outcome::is_not_released, {}};
}

bool is_lockable(sys::FileType type)
{
  return type == sys::FileType::regular || type == sys::FileType::directory;
}

bool see_each_other(const Pair& files)
{
  const auto flock = try_lock(kernel::k_flock, files.one);
  const auto ofd = try_lock(kernel::k_ofd, files.other);
  (void)kernel::k_flock.unlock(files.one, Range{});
  (void)kernel::k_ofd.unlock(files.other, Range{});
  return flock && *flock == Attempt::acquired && ofd && *ofd == Attempt::busy;
}

bool may_be_readable(SysError error)
{
  return error.code == EISDIR || error.code == EACCES || error.code == EROFS || error.code == ETXTBSY ||
         error.code == EPERM;
}

Result<sys::Descriptor> open_writable_if_possible(const std::string& path, int how_to_make, bool& is_writable)
{
  auto opened = sys::open(path.c_str(), O_RDWR | O_NONBLOCK | how_to_make, 0600);
  if (opened || !may_be_readable(opened.error())) { return opened; }
  is_writable = false;
  return sys::open(path.c_str(), O_RDONLY | O_NONBLOCK);
}

Result<Pair> open_twice(const std::string& path, int how_to_make)
{
  Pair files;
  auto one = open_writable_if_possible(path, how_to_make, files.is_writable);
  if (!one) { return tl::unexpected(one.error()); }
  auto other = sys::open(path.c_str(), (files.is_writable ? O_RDWR : O_RDONLY) | O_NONBLOCK);
  if (!other) { return tl::unexpected(other.error()); }
  const auto status = sys::fstat(*one);
  if (!status) { return tl::unexpected(status.error()); }
  files.one = std::move(*one);
  files.other = std::move(*other);
  files.type = status->type;
  return files;
}

Result<Pair> make_beside(const std::string& path, std::string& name)
{
  name = path + ".lockrun-probe-" + std::to_string(sys::process_id());
  auto files = open_twice(name, O_CREAT | O_EXCL);
  if (files || files.error().code != EEXIST) { (void)sys::unlink(name.c_str()); } // ours: O_EXCL
  return files;
}

Result<Probe, Attempt> try_out_all(const Pair& files, const std::string& name)
{
  Probe result;
  result.file = name;
  if (auto mount = sys::mount_of(files.one)) { result.mount = std::move(*mount); }
  const auto flock = try_out(kernel::k_flock, files);
  if (!flock) { return tl::unexpected(flock.error()); }
  result.flock = *flock;
  if (files.type == sys::FileType::directory || !files.is_writable) { return result; }
  const auto ofd = try_out(kernel::k_ofd, files);
  if (!ofd) { return tl::unexpected(ofd.error()); }
  result.ofd = *ofd;
  const bool both_work = result.flock.outcome == Outcome::excludes && result.ofd.outcome == Outcome::excludes;
  result.see_each_other = both_work && see_each_other(files);
  return result;
}

} // namespace

Result<Probe, Error> probe(const LockRequest& request)
{
  std::string path = request.path;
  const auto failed = [&](Reason reason, SysError cause) { return tl::unexpected(Error{reason, request.path, cause}); };
  std::optional<Place> place;
  if (is_name(request.path)) {
    auto made = place_of(request.path);
    if (!made) { return tl::unexpected(made.error()); }
    path = made->path;
    place = std::move(*made);
  }
  // To open a FIFO or a device does something to it.
  if (const auto status = sys::stat(path.c_str()); status && !is_lockable(status->type)) {
    return failed(Reason::wrong_type, {});
  }
  const auto files = open_twice(path, 0);
  if (!files && files.error().code != ENOENT) { return failed(Reason::open_failed, files.error()); }
  if (files) {
    if (!is_lockable(files->type)) { return failed(Reason::wrong_type, {}); }
    auto result = try_out_all(*files, path);
    if (result) { return std::move(*result); }
  }
  std::string name;
  const auto made = make_beside(path, name);
  if (!made) { return files ? failed(Reason::busy, {}) : failed(Reason::open_failed, made.error()); }
  auto result = try_out_all(*made, name);
  if (!result) { return failed(Reason::busy, {}); }
  return std::move(*result);
}

} // namespace lockrun
