#pragma once

#include <string>
#include <string_view>

namespace lockrun::engines::net {

// The first line with something in it of what a stranger has sent: printable, and not too long.
std::string first_line(std::string_view text);

} // namespace lockrun::engines::net
