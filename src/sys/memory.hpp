#pragma once

#include <lockrun/error.hpp>

#include <cstddef>

namespace lockrun::sys {

// Zeroed memory that is shared with all processes forked from now on (mmap(2), MAP_SHARED | MAP_ANONYMOUS). No program
// that is executed gets it.
Result<void*> shared_memory(std::size_t bytes);

} // namespace lockrun::sys
