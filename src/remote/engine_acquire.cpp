#include "remote/engine_acquire.hpp"

#include "kernel/ancestry.hpp"
#include "remote/engine_users.hpp"
#include "remote/process_instance.hpp"
#include "sys/clock.hpp"
#include "sys/proc.hpp"

#include <lockrun/status.hpp>

#include <memory>
#include <utility>

namespace lockrun::remote {
namespace {

using protocol::Message;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using Failed = tl::unexpected<Error>;
using Limit = EngineChannel::Limit;
using Received = EngineChannel::Received;
using Answer = Result<EngineLease, Error>;

// Beyond the time limit, for an engine that has something to say about why it never got so far as to wait.
constexpr seconds k_last_words{1};

// What a message says of one that has the lock.
struct KnownHolder {
  std::string words;
  std::optional<Holder> who;
};

std::shared_ptr<const LockStatus> status_of(std::optional<Holder> who)
{
  if (!who) { return nullptr; }
  auto status = std::make_shared<LockStatus>();
  status->holders.push_back(std::move(*who));
  return status;
}

// Whether the holder in WAITING is an ancestor of ours, so that waiting for it would never end.
bool is_held_by_ancestor(const Message& waiting, const LockRequest& request)
{
  if (waiting.number("holder_slot") && request.slots > 1) { return false; } // another one will do
  const auto pid = static_cast<pid_t>(waiting.number("holder_pid").value_or(0));
  return is_ancestor(pid, waiting.text("holder_instance").value_or(""));
}

// Whether its lock is good enough for what was asked for.
bool covers(const Message& waiting, const LockRequest& request)
{
  const auto slot = waiting.number("holder_slot");
  const bool excludes_all = waiting.text("holder_mode") == "exclusive" && !slot;
  const bool wants_company = request.mode == Mode::shared && request.slots == 0;
  return excludes_all || wants_company || (request.slots == 1 && slot == 0);
}

Error nested_under(const Message& waiting)
{
  const auto pid = static_cast<pid_t>(waiting.number("holder_pid").value_or(0));
  return {Reason::nested, {}, {}, {{pid, sys::command_line(pid).value_or(""), {}}}};
}

// A call that asks for the lock.
class Acquisition {
public:
  Acquisition(
    EngineChannel& channel, const EngineQuestion& question, EngineListener& listener, const sys::Descriptor& signals)
    : m_channel(channel), m_question(question), m_listener(listener), m_signals(signals)
  {}

  Answer run(const std::string& url)
  {
    if (auto refused = ask(url)) { return Failed(*std::move(refused)); }
    for (;;) {
      const Received received = m_channel.await(next_step(), &m_signals);
      if (received.kind == Received::Kind::nothing) {
        if (auto over = reason_to_stop()) { return Failed(*std::move(over)); }
      } else if (auto answer = answer_in(received)) {
        return *std::move(answer);
      }
    }
  }

private:
  // Greets the engine and asks for the lock: at once if every engine can do that, else when we know that this one can.
  std::optional<Error> ask(const std::string& url)
  {
    const LockRequest& request = m_question.request;
    const Message wish = acquire_message(request, m_question.wish);
    const bool is_modest = missing_capability(request, {}) == nullptr;
    const auto greeted = m_channel.greet(url, is_modest ? &wish : nullptr, m_may_wait ? limit() : Limit(), &m_signals);
    if (!greeted) { return greeted.error(); }
    if (const char* const missing = missing_capability(request, text_of(*greeted, "can"))) {
      return engine_error(Reason::engine_unable, missing, m_channel.program().name());
    }
    return is_modest ? std::nullopt : m_channel.ask(protocol::format(wish));
  }

  // When the engine must have answered.
  Limit limit() const
  {
    if (!m_may_wait) { return m_began + k_answer_limit; }
    if (!m_question.request.patience) { return std::nullopt; }
    return m_began + *m_question.request.patience + (m_is_waiting ? nanoseconds(0) : nanoseconds(k_last_words));
  }

  // When to do something even if the engine says nothing.
  Limit next_step() const
  {
    const Limit last = limit();
    return m_is_waiting && (!last || m_next_look < *last) ? Limit(m_next_look) : last;
  }

  // While the engine says nothing.
  std::optional<Error> reason_to_stop()
  {
    if (const int signal = ending_signal(m_signals); signal != 0) {
      m_channel.abandon();
      return interrupted_by(signal);
    }
    const nanoseconds now = sys::steady_now();
    const Limit last = limit();
    if (last && now >= *last) { return too_late(); }
    if (m_is_waiting && now >= m_next_look) {
      m_next_look = now + m_listener.waiting(now - m_began, m_holder.words, m_position);
    }
    return std::nullopt;
  }

  Error too_late()
  {
    m_channel.abandon();
    m_channel.program().set_stuck(!m_is_waiting);
    if (!m_is_waiting) { return m_channel.failure_of({}); }
    Error late = engine_error(Reason::timed_out, {}, m_holder.words);
    late.seen = status_of(std::move(m_holder.who));
    return late;
  }

  // None: it was no last word.
  std::optional<Answer> answer_in(const Received& received)
  {
    const Message& message = received.message;
    if (received.kind != Received::Kind::message) { return Failed(m_channel.failure_of(received)); }
    if (message.is("HELD")) { return granted_in(message); }
    if (message.is("FAIL")) { return Failed(refusal_in(message)); }
    if (message.is("WAITING")) { return waiting_in(message); }
    if (!message.is("TROUBLE")) { return Failed(m_channel.failure_of(received)); }
    m_listener.trouble(text_of(message, "text"));
    return std::nullopt;
  }

  Answer granted_in(const Message& held)
  {
    auto lease = lease_in(held);
    if (!lease) { return Failed(engine_error(Reason::engine_nonsense, m_channel.program().name(), lease.error())); }
    return *std::move(lease);
  }

  Error refusal_in(const Message& message)
  {
    Error error = failure_in(message);
    const bool only_others_may_not_wait = !m_may_wait && !is_nonblocking(m_question.request);
    if (error.reason == Reason::busy && only_others_may_not_wait) { error.reason = Reason::too_many_waiters; }
    if (error.holder.empty()) { error.holder = m_holder.words; }
    const bool is_known = error.holder == m_holder.words;
    error.seen = status_of(is_known ? std::move(m_holder.who) : holder_in(message, "holder_", error.holder));
    return error;
  }

  std::optional<Answer> waiting_in(const Message& message)
  {
    const LockRequest& request = m_question.request;
    m_is_waiting = m_may_wait;
    m_holder.words = text_of(message, "holder");
    m_holder.who = holder_in(message, "holder_", m_holder.words);
    const bool is_known = m_holder.who->pid != 0 || !m_holder.who->command.empty();
    if (!is_known) { m_holder.who.reset(); }
    m_position = message.number("position");
    if (!kernel::asks_for_ancestors(request) || !is_held_by_ancestor(message, request)) { return std::nullopt; }
    m_channel.abandon();
    if (request.nested != Nested::run || !covers(message, request)) { return Failed(nested_under(message)); }
    EngineLease none;
    none.is_ancestors = true;
    return none;
  }

  EngineChannel& m_channel;
  const EngineQuestion& m_question;
  EngineListener& m_listener;
  const sys::Descriptor& m_signals;
  nanoseconds m_began = sys::steady_now();
  nanoseconds m_next_look = m_began; // on the steady clock
  bool m_may_wait = may_wait(m_question.request);
  bool m_is_waiting = false; // the engine has said that another process has it
  KnownHolder m_holder{};
  std::optional<std::int64_t> m_position{};
};

} // namespace

Result<EngineLease, Error> acquire_lease(
  EngineChannel& channel, const std::string& url, const EngineQuestion& question, EngineListener& listener)
{
  const auto signals = sys::signal_descriptor(question.ended_by);
  if (!signals) { return Failed(engine_not_started(signals.error())); }
  return Acquisition(channel, question, listener, *signals).run(url);
}

} // namespace lockrun::remote
