#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lockrun::text {

// One character of UTF-8: its number, and how many bytes it takes; no bytes if it is not valid (Unicode 15, table 3-7).
struct Character {
  std::uint32_t code;
  std::size_t size;
};

// The one that `text`, which is not empty, begins with.
Character first_character(std::string_view text);

} // namespace lockrun::text
