#pragma once

#include <string_view>

namespace lockrun::cli {

// Writes `text`, what was asked for, to standard output. Where that is impossible (a full disk, a closed descriptor, a
// pipe that no process reads) it says so on standard error, in the name of `program`. Returns the exit status.
int print(std::string_view text, std::string_view program = "lockrun");

} // namespace lockrun::cli
