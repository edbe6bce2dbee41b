#pragma once

#include "child/supervise.hpp"
#include "cli/options.hpp"
#include "sys/signal.hpp"

namespace lockrun::cli {

// Does what the options say and returns the exit status. The story in three steps: get the lock, run the command while
// it is held, tell how it ended. Failures have been reported when it returns.
int run(const Options& options);

// --- What other rooms of the story share with it

child::Supervision supervision_of(const Options& options, child::Observer& observer);

} // namespace lockrun::cli
