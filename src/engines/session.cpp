#include "engines/session.hpp"

#include "engines/backoff.hpp"
#include "engines/messages.hpp"
#include "sys/channel.hpp"
#include "sys/clock.hpp"
#include "sys/process.hpp"
#include "sys/signal.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <span>
#include <sysexits.h>
#include <utility>

#include <fmt/format.h>
#include <poll.h>

namespace lockrun::engines {
namespace {

using protocol::Message;

constexpr milliseconds k_join_limit{8'000};   // for servers that may come back; lockrun gives us ten seconds with -n
constexpr milliseconds k_shortest_pause{100}; // between two calls that fail
constexpr milliseconds k_longest_pause{10'000};
constexpr milliseconds k_longest_pause_of_holder{2'000};

class Session {
public:
  Session(Backend& backend, Attention& attention)
    : m_backend(backend), m_attention(attention), m_lockrun(attention.lockrun())
  {
    m_attention.on_complaint([this](const std::string& text) { complain(text); });
  }
  ~Session()
  {
    m_attention.on_complaint(nullptr);
    (void)m_lockrun.release(); // it is not ours to close
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  int run();

private:
  int status();
  int acquire(const Demand& demand);
  std::optional<Failure> join(const Demand& demand);
  void go_on_waiting();
  void stand(Standing standing);
  bool may_start() const;
  std::optional<Failure> lateness() const;
  int hold();
  void keep();
  void lose(const std::string& reason, Instant sure_until);
  int leave(bool is_to_be_told);
  int fail(const Failure& failure);
  int fail_and_leave(const Failure& failure);

  enum class Word { none, release, abandon }; // `abandon` also for the end of what lockrun says
  Word hear();
  std::optional<Message> next_message(bool may_block);
  void say(const Message& message);
  void say(const std::string& lines);
  void complain(const std::string& text);
  void tell_of(const Standing& standing);
  bool is_called_for(Instant until);
  void put_off(const Failure& failure);
  bool is_heard() const;

  Backend& m_backend;
  Attention& m_attention;
  sys::Descriptor m_lockrun;
  protocol::LineReader m_lines;
  bool m_has_ended = false; // lockrun says nothing any more
  bool m_has_complained = false;
  Backoff m_failures{k_shortest_pause, k_longest_pause};
  Backoff m_losses{k_shortest_pause, milliseconds(10'000)}; // between a place that is lost and the next one
  std::string m_told;                                       // the last WAITING

  std::optional<Standing> m_standing; // none: we have to join, or to join again
  Instant m_due{0};                   // when the backend is to be called
  std::optional<Instant> m_limit;     // until then we wait
  const char* m_lateness = "timed_out";
  bool m_has_waited = false;
  bool m_is_in_trouble = false; // the last call failed
  bool m_is_lost = false;       // what we held
};

bool is_interruption(const Failure& failure)
{
  return failure.reason == k_interrupted;
}

bool is_loss(const Failure& failure)
{
  return failure.reason == k_lost;
}

// Why no lock of this backend can be at that URL.
std::optional<Failure> misfit(const Url& url, const Backend& backend)
{
  const auto names = backend.parameters();
  for (const auto& [name, value] : url.parameters) {
    if (name == "ttl" || name == "publish" || std::find(names.begin(), names.end(), name) != names.end()) { continue; }
    std::string known = "there are ttl=";
    for (const char* const each : names) { known += fmt::format(", {}=", each); }
    return usage(fmt::format("{} has no parameter '{}'", backend.name(), name), known + " and publish=");
  }
  if (!url.name.empty()) { return std::nullopt; }
  const char mark = backend.url_form() == UrlForm::fragment ? '#' : '/';
  return usage(
    "the URL names no lock", fmt::format("{}://HOST:{}{}NAME", backend.name(), backend.default_port(), mark));
}

Instant join_limit(std::optional<Instant> limit)
{
  const Instant patience = sys::elapsed_now() + k_join_limit;
  return limit ? std::min(*limit, patience) : patience;
}

void Session::say(const Message& message)
{
  say(protocol::format(message));
}

void Session::say(const std::string& lines)
{
  std::string_view rest = lines;
  while (!rest.empty()) {
    const auto sent = sys::send(m_lockrun, std::as_bytes(std::span(rest)));
    if (sent) {
      rest.remove_prefix(*sent);
      continue;
    }
    if (sent.error().code != EAGAIN) { return; } // nobody listens: the end of its input tells us so, too
    std::array<::pollfd, 1> writable{{{m_lockrun.get(), POLLOUT, 0}}};
    (void)::poll(writable.data(), 1, -1);
  }
}

// None: nothing has come (yet), or nothing will.
std::optional<Message> Session::next_message(bool may_block)
{
  for (;;) {
    std::string line;
    const auto state = m_lines.next(line);
    if (state == protocol::LineReader::State::line) {
      auto message = protocol::parse(line);
      if (message) { return std::move(*message); }
      continue; // not understood, so not for us
    }
    if (state == protocol::LineReader::State::too_long) { m_has_ended = true; }
    if (m_has_ended) { return std::nullopt; }
    std::array<char, 4096> bytes;
    const auto count = sys::receive(m_lockrun, std::as_writable_bytes(std::span(bytes)));
    if (count && *count > 0) {
      m_lines.add({bytes.data(), *count});
    } else if (count || count.error().code != EAGAIN) {
      m_has_ended = true;
    } else if (!may_block) {
      return std::nullopt;
    } else {
      (void)sys::wait_readable({&m_lockrun}, std::nullopt); // whatever ended it, we look again
    }
  }
}

Session::Word Session::hear()
{
  while (const auto message = next_message(false)) {
    if (message->is("RELEASE")) { return Word::release; }
    if (message->is("ABANDON")) { return Word::abandon; }
  }
  return m_has_ended ? Word::abandon : Word::none;
}

int Session::fail(const Failure& failure)
{
  if (failure.standing) { tell_of(*failure.standing); } // one of them may be lockrun's ancestor
  say(fail_message(failure));
  return EX_OK;
}

// What we could not get matters more than what we leave, which may take its time.
int Session::fail_and_leave(const Failure& failure)
{
  m_attention.ignore_lockrun();
  const int status = fail(failure);
  (void)m_backend.leave();
  return status;
}

int Session::leave(bool is_to_be_told)
{
  m_attention.ignore_lockrun();
  const auto left_behind = m_backend.leave();
  if (!is_to_be_told) { return EX_OK; }
  Message released("RELEASED");
  if (left_behind) { released.with("text", *left_behind); }
  say(released);
  return EX_OK;
}

// Lockrun reads at once what it is told. One that has not done so is stopped or stuck: its command is ended without
// it, and it may never tell us to give back what we would keep alive for it.
bool Session::is_heard() const
{
  return sys::unread(m_lockrun).value_or(0) == 0;
}

// Once for each time that things go wrong.
void Session::complain(const std::string& text)
{
  if (std::exchange(m_has_complained, true)) { return; }
  say(Message("TROUBLE").with("text", text));
}

void Session::tell_of(const Standing& standing)
{
  std::string lines = waiting_lines(standing);
  if (lines == m_told) { return; }
  m_told = std::move(lines);
  say(m_told);
}

// Whether the backend is to be called.
bool Session::is_called_for(Instant until)
{
  // What stays ready although the backend has failed is no reason to call it without end.
  auto interests = m_is_in_trouble ? std::vector<::pollfd>() : m_backend.interests();
  const auto woken = m_attention.wait(interests, until);
  if (woken == Attention::Woken::by_lockrun) { return false; }
  return woken == Attention::Woken::by_descriptor || sys::elapsed_now() >= m_due;
}

// What was due is due again: at once if lockrun came in between, and otherwise after a pause, which grows, but not so
// much that what is left of our time would pass.
void Session::put_off(const Failure& failure)
{
  const Instant now = sys::elapsed_now();
  m_due = now;
  if (is_interruption(failure)) { return; }
  complain(failure.text);
  const auto left = std::chrono::duration_cast<milliseconds>(m_standing->pace.sure_until - now);
  // One that waits has only its place to lose, and may be one of many.
  const auto longest = m_standing->is_held ? std::min(left / 20, k_longest_pause_of_holder) : left / 6;
  m_due += m_failures.next(std::max(k_shortest_pause, longest));
  m_is_in_trouble = true;
}

int Session::run()
{
  auto message = next_message(true);
  if (!message) { return EX_OK; }
  if (!message->is("LOCKRUN") || message->number("version") != protocol::k_version) {
    return fail({EX_PROTOCOL, "refused", "it speaks a version of the engine protocol that this engine does not know"});
  }
  say(Message("ENGINE")
        .with("version", protocol::k_version)
        .with("name", m_backend.name())
        .with("can", m_backend.abilities()));
  const auto url = parse_url(message->text("url").value_or(""), m_backend.default_port(), m_backend.url_form());
  if (!url) { return fail(usage("the URL is not understood: " + url.error())); }
  if (const auto unfit = misfit(*url, m_backend)) { return fail(*unfit); }
  const auto opened = m_backend.open(*url);
  if (!opened) { return fail(opened.error()); }
  while ((message = next_message(true))) {
    if (message->is("STATUS")) { return status(); }
    if (message->is("ACQUIRE")) {
      const auto demand = demand_in(*message);
      return demand ? acquire(*demand) : fail(demand.error());
    }
    if (message->is("RELEASE")) {
      say(Message("RELEASED"));
      return EX_OK;
    }
  }
  return EX_OK;
}

int Session::status()
{
  auto contenders = m_backend.status();
  if (!contenders) { return is_interruption(contenders.error()) ? EX_OK : fail(contenders.error()); }
  std::stable_partition(contenders->begin(), contenders->end(), [](const Contender& one) { return !one.waits; });
  for (const Contender& contender : *contenders) { say(contender_message(contender)); }
  say(Message("END"));
  return EX_OK;
}

int Session::acquire(const Demand& demand)
{
  if (demand.patience) { m_limit = sys::elapsed_now() + *demand.patience; }
  if (demand.wait == Wait::never) { // what it was promised does not take longer
    m_limit = sys::elapsed_now() + k_join_limit;
    m_lateness = "busy";
  }
  for (;;) {
    if (const Word word = hear(); word != Word::none) { return leave(word == Word::release); }
    if (const auto late = lateness()) { return fail_and_leave(*late); }
    if (m_standing) {
      go_on_waiting();
    } else if (const auto failure = join(demand)) {
      return fail_and_leave(*failure);
    }
    if (may_start()) { return hold(); }
  }
}

// That we have waited for as long as we may.
std::optional<Failure> Session::lateness() const
{
  if (!m_limit || !m_has_waited || sys::elapsed_now() < *m_limit) { return std::nullopt; }
  const bool is_known = m_standing && m_standing->holder;
  return Failure{EX_TEMPFAIL, m_lateness, "it was not ours in time", is_known ? m_standing->holder->text : ""};
}

// Why there will be no place, if there will be none.
std::optional<Failure> Session::join(const Demand& demand)
{
  auto joined = m_backend.join(demand, join_limit(m_limit));
  if (!joined) { return is_interruption(joined.error()) ? std::nullopt : std::optional(std::move(joined.error())); }
  stand(*std::move(joined));
  return std::nullopt;
}

void Session::go_on_waiting()
{
  if (!is_called_for(m_limit ? std::min(*m_limit, m_due) : m_due)) { return; }
  auto standing = m_backend.proceed();
  if (standing) { return stand(*std::move(standing)); }
  if (is_loss(standing.error())) {
    m_standing.reset();
    (void)m_attention.pause(sys::elapsed_now() + m_losses.next()); // to join again is no loop
    return;
  }
  put_off(standing.error());
  if (m_is_in_trouble && sys::elapsed_now() >= m_standing->pace.sure_until) { m_standing.reset(); }
}

void Session::stand(Standing standing)
{
  m_standing = std::move(standing);
  m_due = m_standing->pace.next;
  m_is_in_trouble = false;
  m_has_complained = false;
  m_failures.reset();
  if (m_standing->is_held) { return; }
  m_has_waited = true;
  m_attention.interrupt_at(m_limit); // whatever the backend is at then
  tell_of(*m_standing);
}

// One that took too long to get is looked at once more.
bool Session::may_start() const
{
  return m_standing && m_standing->is_held && !m_is_in_trouble && sys::elapsed_now() < m_due;
}

int Session::hold()
{
  m_attention.interrupt_at(std::nullopt);
  say(held_message(m_backend.ownership(), m_standing->pace.sure_until));
  for (;;) {
    const Word word = hear();
    if (word == Word::release) { return leave(true); }
    if (word == Word::abandon) { return EX_OK; } // the lease runs out by itself: something may still run under it
    if (m_is_lost) {
      (void)m_attention.pause(Instant::max());
    } else if (is_called_for(m_due)) {
      keep();
    }
  }
}

// What it takes to go on holding it.
void Session::keep()
{
  const Instant end = m_standing->pace.sure_until;
  if (!is_heard()) {
    if (sys::elapsed_now() >= end) { return lose("it was not renewed, because nobody listened", end); }
    (void)m_attention.pause(sys::elapsed_now() + k_shortest_pause);
    return;
  }
  auto standing = m_backend.proceed();
  if (!standing && is_interruption(standing.error())) { return put_off(standing.error()); }
  if (!standing && is_loss(standing.error())) { return lose(standing.error().text, standing.error().sure_until); }
  if (sys::elapsed_now() >= end) { // what is renewed later revives nothing
    return lose(standing ? "it was renewed too late" : standing.error().text, end);
  }
  if (!standing) { return put_off(standing.error()); }
  stand(*std::move(standing));
  const Instant deadline = m_standing->pace.sure_until;
  if (deadline > end) { say(Message("RENEWED").with("deadline", in_milliseconds(deadline))); }
}

void Session::lose(const std::string& reason, Instant sure_until)
{
  say(Message("LOST").with("reason", reason).with("deadline", in_milliseconds(sure_until)));
  m_is_lost = true;
}

} // namespace

int run_session(Backend& backend, Attention& attention)
{
  return Session(backend, attention).run();
}

void run_program(std::unique_ptr<Backend> (*make)(const Attention& attention))
{
  // TLS libraries write without MSG_NOSIGNAL.
  (void)sys::set_disposition(SIGPIPE, sys::Disposition::ignored); // cannot fail for a signal that exists
  // The resolver waits five seconds for a name server that is away before it asks the next one, for each of the names
  // that a list of domains makes of one (resolv.conf(5)). It goes on listening to a slow one while it asks again. What
  // the user wants counts.
  (void)::setenv("RES_OPTIONS", "timeout:1 attempts:5", 0); // without memory it waits for longer
  auto attention = Attention::create();
  if (!attention) { sys::exit_now(EX_OSERR); }
  const auto backend = make(*attention);
  // A name may still be looked up in a thread: nothing waits for it.
  sys::exit_now(run_session(*backend, *attention));
}

} // namespace lockrun::engines
