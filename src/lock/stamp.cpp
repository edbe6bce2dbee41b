#include "lock/stamp.hpp"

#include "sys/clock.hpp"

namespace lockrun {
namespace {

using std::chrono::milliseconds;

// 2020-01-01. No program seeks 1.5 TB behind the end of a file by chance.
constexpr milliseconds k_earliest{1'577'836'800'000};
// The wall clock may have been set back a little since.
constexpr std::chrono::seconds k_leeway{2};

} // namespace

void stamp(const sys::Descriptor& fd)
{
  const auto now = std::chrono::duration_cast<milliseconds>(sys::wall_now());
  (void)sys::seek(fd, now.count()); // messages will say "at most" instead
}

std::optional<std::chrono::nanoseconds> stamped_moment(
  std::int64_t offset, std::int64_t file_size, std::chrono::nanoseconds now)
{
  if (offset <= file_size || offset < k_earliest.count()) { return std::nullopt; }
  if (offset > std::chrono::duration_cast<milliseconds>(now + k_leeway).count()) { return std::nullopt; }
  return milliseconds(offset);
}

} // namespace lockrun
