#pragma once

#include "cli/options.hpp"

#include <lockrun/error.hpp>

namespace lockrun::cli {

// All our words: every line that lockrun writes comes from here, to standard error, one fact a line.

// A failure, with a hint where we truly know one.
void report(const Error& error, const Options& options);

// A command line that means nothing.
void report(const UsageError& error);

// The lock could not be freed at the end; it ends with the processes that share it.
void report_release_failure(const SysError& error, const Options& options);

} // namespace lockrun::cli
