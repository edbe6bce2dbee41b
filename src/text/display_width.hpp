#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lockrun::text {

// How many columns a terminal needs for `text`, which is escaped already (quote.hpp): Chinese, Japanese and Korean
// characters and emoji take two, combining marks none. Without the C library's wcwidth(3), which knows nothing of this
// in the C locale.
std::size_t display_width(std::string_view text);

// `text`, and if it is wider than `columns`, its beginning with "..." at the end. Never cuts a character in two.
std::string cut_to_width(std::string_view text, std::size_t columns);

// The same with its end, and "..." in front: of a path that tells the most.
std::string cut_front_to_width(std::string_view text, std::size_t columns);

} // namespace lockrun::text
