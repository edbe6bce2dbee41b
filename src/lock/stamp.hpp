#pragma once

#include "sys/file.hpp"

#include <chrono>
#include <cstdint>
#include <optional>

namespace lockrun {

// The moment of acquisition is kept as the file offset of the descriptor, in milliseconds since 1970: everybody can
// read it in fdinfo, it survives exec and inheritance, and nothing is written to the file.

// Notes the present moment. Where the file system allows no such offset, nothing is noted.
void stamp(const sys::Descriptor& fd);

// The moment that an offset stands for, since 1970. None for an offset that another program may have made: one within
// the file, before lockrun, or after now.
std::optional<std::chrono::nanoseconds> stamped_moment(
  std::int64_t offset, std::int64_t file_size, std::chrono::nanoseconds now);

} // namespace lockrun
