#pragma once

#include <lockrun/error.hpp>

namespace lockrun::cli {

// Occupies the closed ones of descriptors 0 to 2 for as long as we live: what we open must not become the command's
// standard input or output. The command finds them closed again.
Result<void> fill_standard_descriptors();

} // namespace lockrun::cli
