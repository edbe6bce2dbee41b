#include "cli/progress.hpp"

#include "cli/exit_code.hpp"
#include "cli/failure_words.hpp"
#include "cli/holder_words.hpp"
#include "lock/place.hpp"
#include "sys/clock.hpp"
#include "sys/file.hpp"
#include "sys/passwd.hpp"
#include "sys/process.hpp"
#include "sys/terminal.hpp"
#include "sys/thread.hpp"
#include "text/display_width.hpp"
#include "text/duration.hpp"
#include "text/quote.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string_view>

#include <fcntl.h>
#include <fmt/format.h>

namespace lockrun::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

// Most waits are over by then, and have cost nothing.
constexpr milliseconds k_silence{200};
constexpr milliseconds k_first_line{1000};
constexpr seconds k_tick{1};
// At most 1 % of the time is spent looking.
constexpr int k_rest_per_look = 100;
// Others have their turn to look: how often to ask again before a line is said without a holder, and how soon; each
// time twice as late.
constexpr int k_patience_for_turn = 3;
constexpr milliseconds k_next_try{400};
constexpr std::chrono::hours k_never{24};
// What a window should have at least; in a smaller one the line is cut.
constexpr std::size_t k_usual_columns = 80;
constexpr std::size_t k_shortest_command = 8;
// Terminals wrap in the last column; and show the "^C" of who has waited enough, which must not wrap either.
constexpr std::size_t k_margin = 3;

bool may_draw()
{
  if (!sys::owns_terminal()) { return false; }
  const char* const terminal = std::getenv("TERM");
  return terminal != nullptr && *terminal != '\0' && std::string_view(terminal) != "dumb";
}

// Whether to look up a user's name would cost the place in the queue: it is lost when anything closes the file.
bool is_list_of_users(const LockRequest& request)
{
  const auto file =
    request.fd ? sys::descriptor_status(sys::process_id(), *request.fd) : sys::stat(request.path.c_str());
  const auto users = sys::stat(sys::k_users);
  return file && users && file->identity == users->identity;
}

// "12s", "3m12s"; rounded up, so that it does not say that nothing is left.
std::string rest_text(nanoseconds rest)
{
  return text::duration_text(std::chrono::ceil<seconds>(std::max(rest, nanoseconds(0))));
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
  m_next_line = {};
  m_next_drawing = {};
  m_missed_turns = 0;
  m_signals.block(); // who sees that event sees how the wait ends, too
  m_reporter.waiting(request);
}

nanoseconds Progress::look(nanoseconds waited)
{
  if (!talks()) { return k_never; }
  if (!m_began) { m_began = std::max(waited - (sys::steady_now() - m_announced), nanoseconds(0)); }
  const bool draws = may_draw();
  if (!draws) { m_is_drawn = false; } // in the background now, and the shell has gone on below
  const nanoseconds silence = draws ? k_silence : k_first_line;
  if (waited - *m_began < silence) { return *m_began + silence - waited; }
  const nanoseconds next = draws ? draw(waited) : say(waited);
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
  Sight sight = lockrun::look_for_all(m_subject);
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

nanoseconds Progress::draw(nanoseconds waited)
{
  if (waited < m_next_drawing) { return m_next_drawing - waited; }
  m_next_drawing = waited + k_tick;
  (void)refresh();
  const std::size_t columns = sys::terminal_columns().value_or(k_usual_columns);
  const std::size_t room = columns - std::min(columns, k_margin);
  (void)sys::offer_standard_error("\r" + line(room, waited) + "\x1b[K");
  m_is_drawn = true;
  return k_tick;
}

nanoseconds Progress::say(nanoseconds waited)
{
  if (waited < m_next_line) { return m_next_line - waited; }
  if (!refresh() && m_missed_turns < k_patience_for_turn) { return k_next_try * (1 << m_missed_turns++); }
  const nanoseconds so_far = waited - *m_began;
  const bool is_first = so_far < m_call.reporting.progress.value_or(k_never);
  const std::string lock = name();
  const std::string holder = m_has_seen ? ", " + held_words(m_seen) : "";
  const std::string where = place();
  (void)sys::offer_standard_error(fmt::format("lockrun: {} for {}{}{}{}{}\n", is_first ? "waiting" : "still waiting",
    lock, is_first ? "" : " after " + text::duration_text(std::chrono::floor<seconds>(so_far)), holder,
    where.empty() ? "" : ", place ", where));
  m_missed_turns = 0;
  if (!m_call.reporting.progress) {
    m_next_line = waited + k_never;
  } else {
    m_next_line = *m_began + (so_far / *m_call.reporting.progress + 1) * *m_call.reporting.progress;
  }
  return m_next_line - waited;
}

// As the caller wrote it, where that is known.
std::string Progress::name() const
{
  if (m_request.fd) { return fmt::format("descriptor {}", *m_request.fd); }
  const std::string& written = m_call.request.path;
  const bool is_place_of_name = is_name(written) && path_of_name(written).value_or(std::string()) == m_request.path;
  return text::quoted(is_place_of_name ? written : m_request.path);
}

// "2 of 5"; empty when we are alone, or when the kernel does not tell, as for ofd locks.
std::string Progress::place() const
{
  const auto& waiters = m_seen.waiters;
  const auto ours =
    std::find_if(waiters.begin(), waiters.end(), [](const Waiter& waiter) { return waiter.pid == sys::process_id(); });
  if (!m_has_seen || ours == waiters.end() || waiters.size() == 1) { return {}; }
  return fmt::format("{} of {}", ours->position, waiters.size());
}

// The most telling line that fits: everything; without users and with as much of the command as there is room for; and
// then less and less.
std::string Progress::line(std::size_t columns, nanoseconds waited) const
{
  const std::string where = place();
  const std::string place_text = where.empty() ? "" : ", place " + where;
  std::string rest = place_text;
  if (m_call.request.patience) { rest += fmt::format(", {} left", rest_text(*m_call.request.patience - waited)); }
  const std::string lock = name();
  if (!m_has_seen) { return text::cut_to_width(fmt::format("lockrun: waiting for {}{}", lock, rest), columns); }

  std::string who = "somebody unseen";
  std::string command;
  std::string time;
  std::string more;
  const char* verb = "held";
  if (!m_seen.holders.empty()) {
    const Holder& first = m_seen.holders.front();
    who = fmt::format("PID {}", first.pid);
    if (first.evidence != Holder::Evidence::descriptor) { verb = "taken"; }
    if (const std::size_t count = m_seen.holders.size() - 1 + m_seen.more_holders; count > 0) {
      more = fmt::format(" and {} more", count);
    } else if (const std::string words = held_time_words(first); !words.empty()) {
      time = " " + words;
    }
    const std::size_t others =
      text::display_width(fmt::format("lockrun: waiting for {}, {} by {} (){}{}{}", lock, verb, who, more, time, rest));
    if (others + k_shortest_command <= columns) {
      command = " (" + command_words(first.command, columns - others) + ")";
    }
  }
  const std::string candidates[] = {
    fmt::format("lockrun: waiting for {}, {}{}", lock, held_words(m_seen), rest),
    fmt::format("lockrun: waiting for {}, {} by {}{}{}{}{}", lock, verb, who, command, more, time, rest),
    fmt::format("lockrun: waiting for {}, {} by {}{}{}", lock, verb, who, more, rest),
    fmt::format("lockrun: waiting for {}{}{}{}", who, more, time, rest),
    fmt::format("lockrun: waiting for {}{}{}", who, more, place_text),
    fmt::format("lockrun: waiting for {}{}", who, more),
    fmt::format("lockrun: waiting for {}", who),
  };
  for (const std::string& text : candidates) {
    if (text::display_width(text) <= columns) { return text; }
  }
  return text::cut_to_width(std::end(candidates)[-1], columns);
}

void Progress::stuck(const Error& reason)
{
  if (m_is_drawn && may_draw()) { (void)sys::offer_standard_error("\r\x1b[K"); }
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
    return look_in_turn(request);
  }
  std::optional<Sight> sight;
  if (auto known = m_has_seen ? look_again(m_subject, m_seen) : std::nullopt) {
    sight = Sight{std::move(*known)};
  } else {
    sight = look_in_turn(m_subject);
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
  if (m_is_drawn && may_draw()) { (void)sys::offer_standard_error("\r\x1b[K"); }
  m_is_drawn = false;
  give_turn_back();
}

} // namespace lockrun::cli
