#include "lock/look_turn.hpp"

#include "lock/lock_line.hpp"
#include "sys/lock.hpp"

#include <fcntl.h>

namespace lockrun {

std::optional<LookTurn> LookTurn::take(const char* path)
{
  auto fd = sys::open(path, O_RDONLY);
  if (!fd) { return std::nullopt; }
  const auto attempt = sys::flock(*fd, Mode::exclusive, Wait::never);
  if (!attempt || *attempt != sys::Attempt::acquired) { return std::nullopt; }
  return LookTurn(std::move(*fd));
}

bool LookTurn::may_be_on(const sys::FileIdentity& file)
{
  const auto proc = sys::stat("/proc");
  return proc && proc->identity.device == file.device;
}

bool LookTurn::may_be_on(const sys::LockLine& line)
{
  return may_be_on(sys::FileIdentity{device_of(line), line.inode});
}

} // namespace lockrun
