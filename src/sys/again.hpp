#pragma once

#include <cerrno>

namespace lockrun::sys {

// Makes a system call again that was interrupted (EINTR), as file servers and the handlers of a host program may do.
// Not for ever: a caller that has itself interrupted, again and again, because its time is up gets the EINTR.
template <class Call>
auto again(const Call& call)
{
  constexpr int k_tries = 5;
  auto answer = call();
  for (int tries = 1; answer < 0 && errno == EINTR && tries < k_tries; ++tries) { answer = call(); }
  return answer;
}

} // namespace lockrun::sys
