#include "sys/memory.hpp"

#include <cerrno>

#include <sys/mman.h>

namespace lockrun::sys {

Result<void*> shared_memory(std::size_t bytes)
{
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) { return tl::unexpected(SysError{"mmap", errno}); }
  return memory;
}

} // namespace lockrun::sys
