// The one place that knows the version: CMake, --version and the manual read it from here.
#pragma once

namespace lockrun {

inline constexpr const char* k_version = "0.1.0";

} // namespace lockrun
