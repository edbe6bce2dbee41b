#pragma once

#include "cli/options.hpp"

namespace lockrun::cli {

// Does what the options say and returns the exit status. The story in three steps: get the lock, run the command while
// it is held, tell how it ended. Failures have been reported when it returns.
int run(const Options& options);

} // namespace lockrun::cli
