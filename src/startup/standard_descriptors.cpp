#include "startup/standard_descriptors.hpp"

#include "sys/file.hpp"

#include <fcntl.h>

namespace lockrun::cli {
namespace {

// As a mere place (O_PATH) it answers every read and write with EBADF, as a closed descriptor does. The place is a
// symbolic link, which /dev/stdin cannot open again (ELOOP): it is not there, and "/" would be.
Result<sys::Descriptor> open_filler()
{
  auto link = sys::open("/proc/self", O_PATH | O_NOFOLLOW);
  if (link) { return link; }
  return sys::open("/", O_PATH | O_DIRECTORY); // without /proc there is no /dev/stdin either
}

} // namespace

Result<void> fill_standard_descriptors()
{
  const auto closed = sys::closed_standard_descriptors();
  if (!closed) { return tl::unexpected(closed.error()); }
  for (unsigned left = *closed; left != 0; left &= left - 1) {
    auto filler = open_filler();
    if (!filler) { return tl::unexpected(filler.error()); }
    (void)filler->release();
  }
  return {};
}

} // namespace lockrun::cli
