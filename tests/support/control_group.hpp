#pragma once

#include <string>

namespace lockrun::testing {

// Makes a control group for this process's test (cgroups(7), version 2), whose directory this is; empty where there
// cannot be one. No process is in it, and the test removes it.
std::string make_control_group();

} // namespace lockrun::testing
