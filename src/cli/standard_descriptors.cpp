#include "cli/standard_descriptors.hpp"

#include "sys/file.hpp"

#include <fcntl.h>

namespace lockrun::cli {

Result<void> fill_standard_descriptors()
{
  const auto closed = sys::closed_standard_descriptors();
  if (!closed) { return tl::unexpected(closed.error()); }
  for (unsigned left = *closed; left != 0; left &= left - 1) {
    // As a mere place (O_PATH) it answers every read and write with EBADF, as a closed descriptor does.
    auto filler = sys::open("/", O_PATH | O_DIRECTORY);
    if (!filler) { return tl::unexpected(filler.error()); }
    (void)filler->release();
  }
  return {};
}

} // namespace lockrun::cli
