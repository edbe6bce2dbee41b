#pragma once

#include "sys/descriptor.hpp"
#include "sys/file.hpp"
#include "sys/proc.hpp"

#include <lockrun/request.hpp>

#include <optional>
#include <string>
#include <vector>

namespace lockrun {

// One lock in the kernel, and the descriptor that keeps it.
struct Hold {
  sys::Descriptor fd;
  Mode mode = Mode::exclusive;
  std::optional<Api> api = Api::flock; // none: a slot and nothing else
  Range range;
  std::string path;    // the name of the file; empty for a descriptor of the caller's
  bool unlink = false; // remove the file at release
  std::optional<int> slot{};
  std::vector<sys::LockLine> before{}; // what the caller's descriptor had before, and keeps
};

} // namespace lockrun
