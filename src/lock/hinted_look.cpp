#include "lock/hinted_look.hpp"

#include "lock/look.hpp"
#include "sys/clock.hpp"
#include "sys/signal.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace lockrun {
namespace {

using std::chrono::nanoseconds;

// For how long a call lets another one look before its last words, and how often it asks. The one that has looked at a
// long list stays a little longer, so that those who wait find its hint.
constexpr nanoseconds k_patience_with_other = std::chrono::milliseconds(30);
constexpr nanoseconds k_next_try = std::chrono::milliseconds(2);
constexpr nanoseconds k_longest_stay = std::chrono::milliseconds(10);
constexpr int k_stay_per_look = 2;

// Only who has it exclusively has it alone.
std::optional<pid_t> only_holder(const LockStatus& status)
{
  const bool is_one = status.holders.size() == 1 && status.more_holders == 0;
  if (!is_one || status.state != LockState::exclusive) { return std::nullopt; }
  const Holder& holder = status.holders.front();
  return holder.evidence == Holder::Evidence::descriptor ? std::optional(holder.pid) : std::nullopt;
}

Sight sight_of(const Subject& subject, LockStatus status)
{
  Sight sight{std::move(status), std::nullopt};
  if (const auto holder = only_holder(sight.status)) { sight.hint = HolderHint::leave(subject.file.identity, *holder); }
  return sight;
}

std::optional<LockStatus> look_at_hint(const Subject& subject)
{
  const auto hint = HolderHint::find(subject.file.identity);
  if (!hint) { return std::nullopt; }
  LockStatus found = look_among(subject, {*hint});
  return only_holder(found) ? std::optional(std::move(found)) : std::nullopt;
}

} // namespace

std::optional<LockStatus> look_again(const LockRequest& request, const LockStatus& seen)
{
  const auto subject = subject_of(request);
  if (!subject || seen.holders.empty()) { return std::nullopt; }
  std::vector<pid_t> pids;
  for (const Holder& holder : seen.holders) { pids.push_back(holder.pid); }
  LockStatus now = look_among(*subject, pids);
  if (now.holders.size() != seen.holders.size()) { return std::nullopt; }
  now.more_holders = seen.more_holders;
  now.waiters = seen.waiters;
  return now;
}

std::optional<LockStatus> look_at_hint(const LockRequest& request)
{
  const auto subject = subject_of(request);
  return subject ? look_at_hint(*subject) : std::nullopt;
}

Sight look_and_hint(const LockRequest& request)
{
  const auto subject = subject_of(request);
  return subject ? sight_of(*subject, look_at(*subject, Detail::brief)) : Sight();
}

std::optional<Sight> look_or_take_hint(const LockRequest& request)
{
  const auto subject = subject_of(request);
  if (!subject) { return Sight(); }
  const sys::FileIdentity& file = subject->file.identity;
  const nanoseconds limit = sys::steady_now() + k_patience_with_other;
  for (bool is_late = false;; is_late = sys::steady_now() >= limit) {
    if (auto known = look_at_hint(*subject)) { return sight_of(*subject, std::move(*known)); }
    auto looking = HolderHint::begin_to_look(file);
    // A process that was stopped on its way to saying that it looks must not keep the others from looking for ever.
    if (looking || (is_late && !HolderHint::is_looked_for(file))) {
      const nanoseconds before = sys::thread_time();
      Sight sight = sight_of(*subject, look_at(*subject, Detail::brief));
      looking.reset();
      const nanoseconds stay = k_stay_per_look * (sys::thread_time() - before);
      if (sight.hint) { (void)sys::wait_signal({}, std::min(stay, k_longest_stay)); }
      return sight;
    }
    if (is_late) { return std::nullopt; }
    (void)sys::wait_signal({}, k_next_try);
  }
}

} // namespace lockrun
