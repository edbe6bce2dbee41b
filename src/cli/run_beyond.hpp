#pragma once

#include "cli/events.hpp"
#include "cli/options.hpp"
#include "sys/signal.hpp"

namespace lockrun::cli {

// The story of run() for a lock beyond this machine: an engine program gets it and keeps it, and a guard ends the
// command in time when it is lost. `ended_by` ends the wait, `inherited` is the command's signal mask. Never a part of
// its caller, where its half a page of stack would be touched by every call.
[[gnu::noinline]] int run_beyond(
  const Options& options, EventLog& events, const sys::SignalSet& ended_by, const sys::SignalSet& inherited);

} // namespace lockrun::cli
