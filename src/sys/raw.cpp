#include "sys/raw.hpp"

#include <cerrno>

#include <unistd.h>

namespace lockrun::sys {

Result<long> raw_call_words(const char* name, long number, const long (&words)[6])
{
  const long value = ::syscall(number, words[0], words[1], words[2], words[3], words[4], words[5]);
  if (value == -1) { return tl::unexpected(SysError{name, errno}); }
  return value;
}

} // namespace lockrun::sys
