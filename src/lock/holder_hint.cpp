#include "lock/holder_hint.hpp"

#include "lock/look_turn.hpp"
#include "sys/lock.hpp"

#include <cstdint>
#include <utility>

#include <fcntl.h>

namespace lockrun {
namespace {

constexpr const char* k_place = "/proc/locks";
// The kernel's numbers of processes are smaller (PID_MAX_LIMIT); above them there are 40 bits for the file.
constexpr std::int64_t k_processes = std::int64_t{1} << 22;
constexpr int k_bits_for_file = 40;

// There is no process 0.
constexpr pid_t k_looking = 0;

// The byte that says that `holder` holds `file`. That another file may have the same ones does no harm.
std::int64_t byte_of(const sys::FileIdentity& file, pid_t holder)
{
  constexpr std::uint64_t k_spread = 0x9E3779B97F4A7C15; // 2^64 divided by the golden ratio
  const std::uint64_t mixed = (file.device * k_spread + file.inode) * k_spread;
  return static_cast<std::int64_t>(mixed >> (64 - k_bits_for_file)) * k_processes + holder;
}

// The first one that is found from `holder` on, of `count`.
std::optional<pid_t> said_of(const sys::FileIdentity& file, pid_t holder, std::int64_t count)
{
  const auto fd = sys::open(k_place, O_RDONLY);
  if (!fd) { return std::nullopt; }
  const auto found = sys::ofd_conflict(*fd, Mode::exclusive, {byte_of(file, holder), count});
  if (!found || !*found) { return std::nullopt; }
  return static_cast<pid_t>((*found)->range.start - byte_of(file, 0));
}

} // namespace

HolderHint HolderHint::leave(const sys::FileIdentity& file, pid_t holder)
{
  auto fd = sys::open(k_place, O_RDONLY);
  if (!fd) { return HolderHint({}); }
  (void)sys::ofd_lock(*fd, Mode::shared, {byte_of(file, holder), 1}, Wait::never);
  return HolderHint(std::move(*fd));
}

std::optional<pid_t> HolderHint::find(const sys::FileIdentity& file)
{
  return said_of(file, 1, k_processes - 1);
}

std::optional<HolderHint> HolderHint::begin_to_look(const sys::FileIdentity& file)
{
  const auto turn = LookTurn::at_hints(); // until it is said
  if (!turn || is_looked_for(file)) { return std::nullopt; }
  return leave(file, k_looking);
}

bool HolderHint::is_looked_for(const sys::FileIdentity& file)
{
  return said_of(file, k_looking, 1).has_value();
}

} // namespace lockrun
