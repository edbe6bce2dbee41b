#include "contract/contender.hpp"

#include "lock/hold.hpp"

namespace lockrun::testing {
namespace {

constexpr int k_reasons = 100; // exit statuses from here on are reasons

} // namespace

LockRequest request_for(const Backend& backend, const std::filesystem::path& path, Mode mode)
{
  LockRequest request;
  request.path = path;
  request.api = backend.api;
  request.mode = mode;
  request.fair = backend.fair;
  request.slots = backend.slots;
  request.nested = Nested::wait;
  return request;
}

LockRequest without_waiting(LockRequest request)
{
  return waiting_at_most(std::move(request), std::chrono::nanoseconds(0));
}

LockRequest waiting_at_most(LockRequest request, std::chrono::nanoseconds patience)
{
  request.patience = patience;
  return request;
}

Contender::Contender(const LockRequest& request, const std::function<void()>& before,
  const std::function<void()>& inside, const WaitPlan& plan)
  : m_process([&] {
      if (before) { before(); }
      const auto lock = acquire(request, plan);
      if (!lock) { return k_reasons + static_cast<int>(lock.error().reason); }
      if (inside) { inside(); }
      m_got_it.give();
      m_end.wait();
      return 0;
    })
{}

std::optional<Reason> Contender::outcome()
{
  m_end.give();
  const WaitStatus status = m_process.wait();
  if (status == exited(0)) { return std::nullopt; }
  return static_cast<Reason>(status.value - k_reasons);
}

std::optional<Reason> try_once(const LockRequest& request)
{
  const auto lock = acquire(without_waiting(request), {});
  if (lock) { return std::nullopt; }
  return lock.error().reason;
}

} // namespace lockrun::testing
