#pragma once

#include "cli/obtain.hpp"

#include <lockrun/request.hpp>

#include <string>
#include <vector>

namespace lockrun::cli {

// What the command finds in its environment, as assignments "NAME=VALUE". Each variable of an engine's lock has a twin
// that ends with the depth of nesting, so that a lock inside of another hides nothing: LOCKRUN_TOKEN is the innermost,
// LOCKRUN_TOKEN_1 the outermost.
std::vector<std::string> lock_environment(const LockRequest& request, const LockFacts& facts);

} // namespace lockrun::cli
