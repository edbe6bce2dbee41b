#pragma once

#include "options/call.hpp"

namespace lockrun::cli {

// Does what the call says and returns the exit status: gets the lock, runs the command while it is held, gives it back.
// Failures have been reported when it returns.
int run(const Call& call);

} // namespace lockrun::cli
