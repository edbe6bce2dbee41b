#include "lock/look_turn.hpp"

#include "sys/file.hpp"
#include "sys/lock.hpp"

#include <fcntl.h>

namespace lockrun {

std::optional<LookTurn> LookTurn::take()
{
  auto fd = sys::open("/proc/locks", O_RDONLY);
  if (!fd) { return std::nullopt; }
  const auto attempt = sys::flock(*fd, Mode::exclusive, Wait::never);
  if (!attempt || *attempt != sys::Attempt::acquired) { return std::nullopt; }
  return LookTurn(std::move(*fd));
}

} // namespace lockrun
