#include "remote/lease_clock.hpp"

#include "protocol/lease.hpp"
#include "sys/memory.hpp"

#include <algorithm>
#include <new>

namespace lockrun::remote {

using std::chrono::nanoseconds;

LeaseTerms lease_terms(nanoseconds deadline, nanoseconds ttl, nanoseconds kill_after, bool is_asked_for)
{
  const nanoseconds margin = protocol::kill_margin(ttl);
  const nanoseconds grace = protocol::grace_period(ttl, kill_after, is_asked_for);
  // Half of the margin, so that the other half is left for the kernel and us.
  return {deadline, margin, grace, is_asked_for ? grace : std::min(grace, margin / 2)};
}

Result<LeaseClock> LeaseClock::create(const LeaseTerms& terms)
{
  const auto memory = sys::shared_memory(sizeof(Shared));
  if (!memory) { return tl::unexpected(memory.error()); }
  auto* const shared = new (*memory) Shared{};
  shared->kill_at = (terms.deadline - terms.margin).count();
  shared->ask_at = (terms.deadline - terms.margin - terms.grace).count();
  return LeaseClock(shared, terms);
}

void LeaseClock::renew(nanoseconds deadline, nanoseconds now) noexcept
{
  const nanoseconds later = deadline - m_terms.margin;
  if (is_asked() || now >= kill_at() || later <= kill_at()) { return; }
  // The moment of SIGKILL first: a process that reads in between asks too early at worst, and never kills too late.
  m_shared->kill_at = later.count();
  m_shared->ask_at = (later - m_terms.grace).count();
}

void LeaseClock::lose(nanoseconds sure_until, nanoseconds now) noexcept
{
  const nanoseconds latest = std::max(sure_until - m_terms.margin, now + m_terms.last_grace);
  m_shared->is_reported = true;
  m_shared->kill_at = std::min({kill_at(), now + m_terms.grace, latest}).count();
  m_shared->ask_at = std::min(ask_at(), now).count();
}

} // namespace lockrun::remote
