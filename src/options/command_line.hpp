#pragma once

#include "options/parse.hpp"
#include "options/scan.hpp"

#include <span>
#include <vector>

namespace lockrun::cli {

// Finishes `options`, to which the `given` options have been applied, with what stands behind these: LOCK, the command,
// or a descriptor. Refuses what does not go together.
Result<void, UsageError> complete(
  Options& options, const std::vector<Occurrence>& given, std::span<char* const> operands);

} // namespace lockrun::cli
