#include "sys/poller.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace lockrun::sys {

Result<Poller> Poller::create()
{
  auto timer = Timer::create();
  if (!timer) { return tl::unexpected(timer.error()); }
  return Poller(std::move(*timer));
}

Result<Poller::Woken> Poller::wait(std::span<::pollfd> descriptors, std::optional<std::chrono::nanoseconds> until) const
{
  std::array<::pollfd, 17> all{};
  if (descriptors.size() >= all.size()) { return tl::unexpected(SysError{"poll", EINVAL}); }
  std::copy(descriptors.begin(), descriptors.end(), all.begin());
  ::nfds_t count = descriptors.size();
  if (until) {
    const auto set = m_timer.set(*until);
    if (!set) { return tl::unexpected(set.error()); }
    all[count++] = {m_timer.descriptor(), POLLIN, 0};
  }
  int ready = 0;
  do {
    ready = ::poll(all.data(), count, -1);
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) { return tl::unexpected(SysError{"poll", errno}); }
  bool by_descriptor = false;
  for (std::size_t i = 0; i < descriptors.size(); ++i) {
    descriptors[i].revents = all[i].revents;
    by_descriptor = by_descriptor || all[i].revents != 0;
  }
  return by_descriptor ? Woken::by_descriptor : Woken::by_time;
}

} // namespace lockrun::sys
