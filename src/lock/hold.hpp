#pragma once

#include "sys/descriptor.hpp"
#include "sys/file.hpp"

#include <lockrun/request.hpp>

namespace lockrun {

// One lock in the kernel, and the descriptor that keeps it.
struct Hold {
  sys::Descriptor fd;
  Mode mode = Mode::exclusive;
  Api api = Api::flock;
  Range range;
  sys::FileIdentity identity; // of the file that was locked; not set for a descriptor of the caller's
};

} // namespace lockrun
