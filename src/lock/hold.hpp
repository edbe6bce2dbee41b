#pragma once

#include "sys/descriptor.hpp"
#include "sys/file.hpp"

#include <lockrun/request.hpp>

#include <optional>
#include <string>

namespace lockrun {

// One lock in the kernel, and the descriptor that keeps it.
struct Hold {
  sys::Descriptor fd;
  Mode mode = Mode::exclusive;
  Api api = Api::flock;
  Range range;
  std::string path;    // the name of the file; empty for a descriptor of the caller's
  bool unlink = false; // remove the file at release
  std::optional<int> slot{};
};

} // namespace lockrun
