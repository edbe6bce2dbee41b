#pragma once

#include "options/call.hpp"

namespace lockrun::cli {

// --probe: tells on standard output whether locking works where options.request.path is. Returns the exit status: 0 if
// the kind of lock that is asked for does, otherwise k_unavailable, or that of the failure to find out.
int show_probe(const Question& question, const Reporting& reporting, int conflict_exit_code);

} // namespace lockrun::cli
