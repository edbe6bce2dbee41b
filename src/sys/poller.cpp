#include "sys/poller.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>

#include <sys/timerfd.h>

namespace lockrun::sys {

Result<Poller> Poller::create()
{
  Descriptor timer(::timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.is_open()) { return tl::unexpected(SysError{"timerfd_create", errno}); }
  return Poller(std::move(timer));
}

Result<Poller::Woken> Poller::wait(std::span<::pollfd> descriptors, std::optional<std::chrono::nanoseconds> until) const
{
  std::array<::pollfd, 17> all{};
  if (descriptors.size() >= all.size()) { return tl::unexpected(SysError{"poll", EINVAL}); }
  std::copy(descriptors.begin(), descriptors.end(), all.begin());
  ::nfds_t count = descriptors.size();
  if (until) {
    // A time of zero would disarm it, one in the past makes it ready at once.
    const auto moment = std::max(*until, std::chrono::nanoseconds(1));
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(moment);
    ::itimerspec when{};
    when.it_value.tv_sec = seconds.count();
    when.it_value.tv_nsec = (moment - seconds).count();
    if (::timerfd_settime(m_timer.get(), TFD_TIMER_ABSTIME, &when, nullptr) != 0) {
      return tl::unexpected(SysError{"timerfd_settime", errno});
    }
    all[count++] = {m_timer.get(), POLLIN, 0};
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
