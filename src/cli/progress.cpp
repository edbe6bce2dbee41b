#include "cli/progress.hpp"

#include "cli/exit_code.hpp"
#include "cli/failure_words.hpp"
#include "cli/holder_words.hpp"
#include "lock/place.hpp"
#include "sys/clock.hpp"
#include "sys/file.hpp"
#include "sys/passwd.hpp"
#include "sys/process.hpp"
#include "sys/thread.hpp"
#include "text/quote.hpp"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string_view>

#include <fcntl.h>
#include <fmt/format.h>

namespace lockrun::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

// At most 1 % of the time is spent looking.
constexpr int k_rest_per_look = 100;
constexpr std::chrono::hours k_never{24};
// Whether to look up a user's name would cost the place in the queue: it is lost when anything closes the file.
bool is_list_of_users(const LockRequest& request)
{
  const auto file =
    request.fd ? sys::descriptor_status(sys::process_id(), *request.fd) : sys::stat(request.path.c_str());
  const auto users = sys::stat(sys::k_users);
  return file && users && file->identity == users->identity;
}

} // namespace

void Progress::waiting(const LockRequest& request)
{
  sys::share_heap();
  end();
  m_request = request;
  m_request.fd = request.fd;
  m_subject = m_request;
  // The file server may be dead when we look, and to follow the path could take for ever then.
  if (!request.fd && m_call.reporting.verbosity != Verbosity::quiet) {
    m_place = sys::open(request.path.c_str(), O_PATH).value_or(sys::Descriptor());
    if (m_place.is_open()) { m_subject.fd = m_place.get(); }
    m_names_users = !is_list_of_users(m_subject);
  }
  m_has_waited = true;
  m_announced = sys::steady_now();
  m_began.reset();
  m_has_seen = false;
  m_line.begin();
  m_signals.block(); // who sees that event sees how the wait ends, too
  m_reporter.waiting(request);
}

nanoseconds Progress::look(nanoseconds waited)
{
  if (!talks()) { return k_never; }
  if (!m_began) { m_began = std::max(waited - (sys::steady_now() - m_announced), nanoseconds(0)); }
  const nanoseconds next = m_line.look(waited - *m_began, *this);
  const nanoseconds now = sys::steady_now();
  if (m_turn && now >= m_next_look) { give_turn_back(); }
  return m_turn ? std::min(next, m_next_look - now) : next;
}

// Whether m_seen is as fresh as it may be.
bool Progress::refresh()
{
  const nanoseconds now = sys::steady_now();
  if (now < m_next_look) { return m_has_seen; }
  if (!m_turn) { m_turn = LookTurn::at_locks(); }
  if (!m_turn) {
    auto known = lockrun::look_at_hint(m_subject);
    if (known) { take_note(std::move(*known)); }
    return known.has_value();
  }
  const nanoseconds before = sys::thread_time();
  Sight sight = lockrun::look_and_hint(m_subject);
  m_hint = std::move(sight.hint);
  take_note(std::move(sight.status));
  m_next_look = sys::steady_now() + k_rest_per_look * (sys::thread_time() - before);
  return true;
}

void Progress::take_note(LockStatus seen)
{
  forget_users(seen);
  const std::lock_guard guard(m_mutex);
  m_seen = std::move(seen);
  m_has_seen = true;
}

void Progress::give_turn_back()
{
  m_turn.reset();
  m_hint.reset();
}

void Progress::forget_users(LockStatus& status) const
{
  if (m_names_users) { return; }
  for (Holder& holder : status.holders) { holder.user.reset(); }
}

// As the caller wrote it, where that is known.
std::string Progress::name() const
{
  if (m_request.fd) { return fmt::format("descriptor {}", *m_request.fd); }
  const std::string& written = m_call.request.path;
  const bool is_place_of_name = is_name(written) && path_of_name(written).value_or(std::string()) == m_request.path;
  return text::quoted(is_place_of_name ? written : m_request.path);
}

// "place 2 of 5"; empty when we are alone, or when the kernel does not tell, as for ofd locks.
std::string Progress::place() const
{
  const auto& waiters = m_seen.waiters;
  const auto ours =
    std::find_if(waiters.begin(), waiters.end(), [](const Waiter& waiter) { return waiter.pid == sys::process_id(); });
  if (ours == waiters.end() || waiters.size() == 1) { return {}; }
  return fmt::format("place {} of {}", ours->position, waiters.size());
}

WaitFacts Progress::facts(nanoseconds waited) const
{
  WaitFacts facts{name(), {}, "somebody unseen"};
  if (m_call.request.patience) { facts.left = *m_call.request.patience - *m_began - waited; }
  if (!m_has_seen) { return facts; }
  facts.held = held_words(m_seen);
  facts.place = place();
  if (m_seen.holders.empty()) { return facts; }
  const Holder& first = m_seen.holders.front();
  facts.who = fmt::format("PID {}", first.pid);
  facts.command = first.command;
  if (first.evidence != Holder::Evidence::descriptor) { facts.verb = "taken"; }
  if (const std::size_t count = m_seen.holders.size() - 1 + m_seen.more_holders; count > 0) {
    facts.more = fmt::format(" and {} more", count);
  } else if (const std::string words = held_time_words(first); !words.empty()) {
    facts.time = " " + words;
  }
  return facts;
}

void Progress::stuck(const Error& reason)
{
  m_line.end();
  Error said = reason;
  { // another look might not come back either
    const std::lock_guard guard(m_mutex);
    if (m_has_seen) { said.seen = std::make_shared<LockStatus>(m_seen); }
  }
  if (!m_has_waited && reason.reason == Reason::timed_out) { said.cause.code = ETIMEDOUT; } // no lock was in the way
  (void)m_reporter.failed(said);
  end_now(reason);
}

void Progress::end_now(const Error& reason)
{
  const int exit_code = exit_code_for(reason, m_call.conflict_exit_code);
  const bool by_signal = reason.reason == Reason::interrupted;
  sys::exit_now(by_signal ? end_by_signal(reason.cause.code, exit_code, m_signals.inherited) : exit_code);
}

// Under the name that the caller used.
bool Progress::has_waited_for(std::string_view target) const
{
  if (!m_has_waited || m_request.fd) { return m_has_waited; }
  return m_request.path == target ||
         (is_name(target) && m_request.path == path_of_name(target).value_or(std::string()));
}

std::optional<Sight> Progress::last_look(const Error& reason) const
{
  if (!has_waited_for(reason.target)) {
    LockRequest request = m_call.request;
    if (!request.fd) { request.path = reason.target; }
    return look_or_take_hint(request);
  }
  std::optional<Sight> sight;
  if (auto known = m_has_seen ? look_again(m_subject, m_seen) : std::nullopt) {
    sight = Sight{std::move(*known)};
  } else {
    sight = look_or_take_hint(m_subject);
  }
  if (sight) { forget_users(sight->status); }
  return sight;
}

Error Progress::with_holders(Error reason) const
{
  const Reporting& reporting = m_call.reporting;
  const bool is_told = reporting.verbosity != Verbosity::quiet || reporting.syslog || !reporting.events.empty();
  if (!is_conflict(reason.reason) || !is_told) { return reason; }
  if (auto sight = last_look(reason)) {
    // With its hint, which is for others as long as this is said.
    const auto kept = std::make_shared<Sight>(*std::move(sight));
    reason.seen = std::shared_ptr<const LockStatus>(kept, &kept->status);
  }
  return reason;
}

void Progress::end()
{
  m_line.end();
  give_turn_back();
}

} // namespace lockrun::cli
