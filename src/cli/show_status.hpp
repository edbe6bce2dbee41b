#pragma once

#include "options/call.hpp"

namespace lockrun::cli {

// --status: who holds each of options.locks and who waits for it, on standard output. Returns the exit status: 0 when
// all are free, options.conflict_exit_code when any is held, that of the failure when one cannot be told.
int show_status(const Question& question, const Reporting& reporting, int conflict_exit_code);

} // namespace lockrun::cli
