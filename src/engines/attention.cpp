#include "engines/attention.hpp"

#include <vector>

namespace lockrun::engines {

Result<Attention> Attention::create(int lockrun)
{
  auto poller = sys::Poller::create();
  if (!poller) { return tl::unexpected(poller.error()); }
  return Attention(std::move(*poller), lockrun);
}

Attention::Woken Attention::wait(std::span<::pollfd> descriptors, Instant until) const
{
  std::vector<::pollfd> all{{m_hears_lockrun ? m_lockrun : -1, POLLIN, 0}};
  all.insert(all.end(), descriptors.begin(), descriptors.end());
  const bool may_interrupt = m_hears_lockrun && m_interruption && *m_interruption < until;
  const auto woken = m_poller.wait(all, may_interrupt ? *m_interruption : until);
  for (std::size_t i = 0; i < descriptors.size(); ++i) { descriptors[i].revents = all[i + 1].revents; }
  if (all[0].revents != 0) { return Woken::by_lockrun; }
  if (woken && *woken == sys::Poller::Woken::by_descriptor) { return Woken::by_descriptor; }
  return may_interrupt ? Woken::by_lockrun : Woken::by_time;
}

Attention::Woken Attention::wait(int descriptor, short events, Instant until) const
{
  ::pollfd one{descriptor, events, 0};
  return wait(std::span(&one, 1), until);
}

} // namespace lockrun::engines
