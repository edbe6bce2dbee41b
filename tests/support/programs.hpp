#pragma once

#include <string>

namespace lockrun::testing {

// The path of one of our own little programs, tests/support/programs/NAME.cpp.
std::string program(const std::string& name);

} // namespace lockrun::testing
