#pragma once

#include "child/supervise.hpp"
#include "cli/options.hpp"
#include "sys/signal.hpp"

namespace lockrun::cli {

// Does what the options say and returns the exit status. The story in three steps: get the lock, run the command while
// it is held, tell how it ended. Failures have been reported when it returns.
int run(const Options& options);

// --- What other rooms of the story share with it

// Ends us in the way in which `signal`, which we have blocked, would have ended us, so that our parent sees what it
// would see of any program. Returns `status` if the signal has no such action.
int end_by_signal(int signal, int status, const sys::SignalSet& inherited);

child::Supervision supervision_of(const Options& options, child::Observer& observer);

} // namespace lockrun::cli
