#pragma once

#include "support/process.hpp"

#include <string>
#include <vector>

namespace lockrun::testing {

// Whether strace works here; it needs ptrace(2), which containers can forbid.
bool can_trace();

// The program under test under strace with these arguments of strace's: to have the kernel answer with errors that are
// hard to come by (-e inject=…), or to see what was called. Descriptions of the calls go to `log`.
std::vector<std::string> traced(
  const std::string& log, const std::vector<std::string>& how, const std::vector<std::string>& arguments);

} // namespace lockrun::testing
