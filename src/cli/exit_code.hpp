#pragma once

#include "child/supervise.hpp"
#include "text/exit_status.hpp"

#include <lockrun/error.hpp>

namespace lockrun::cli {

// The exit status for a failure. `conflict` is what -E asked for.
int exit_code_for(const Error& error, int conflict);

// And for how the command ended.
int exit_code_for(const child::Ending& ending);

} // namespace lockrun::cli
