#pragma once

#include "sys/descriptor.hpp"
#include "sys/lock.hpp"
#include "sys/proc.hpp"

#include <lockrun/request.hpp>

#include <optional>
#include <span>

namespace lockrun::kernel {

// One kind of lock that the kernel grants, on a descriptor that somebody opened. Both kinds belong to the open file
// description: shared by all who inherit it, gone when the last of them has closed it.
struct KernelLock {
  const char* name; // as in --api
  Result<sys::Attempt> (*lock)(const sys::Descriptor&, Mode, const Range&, Wait);
  Result<void> (*unlock)(const sys::Descriptor&, const Range&);
  sys::LockLine::Kind kind; // as the kernel shows it in /proc
};

// flock(2): the whole file, or a directory.
extern const KernelLock k_flock;

// F_OFD_SETLK of fcntl(2): a range of bytes of a regular file.
extern const KernelLock k_ofd;

// The locks that make up `api`, in the order in which they are taken, so that two callers of `both` cannot deadlock.
// None of none.
std::span<const KernelLock* const> kernel_locks(std::optional<Api> api);

} // namespace lockrun::kernel
