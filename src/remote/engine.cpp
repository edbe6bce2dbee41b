#include "remote/engine.hpp"

#include "sys/clock.hpp"

namespace lockrun::remote {

using protocol::Message;
using std::chrono::nanoseconds;
using Received = EngineChannel::Received;

Result<Engine, Error> Engine::start(std::string_view name, const sys::SignalSet& inherited)
{
  auto program = EngineProgram::start(name, inherited);
  if (!program) { return tl::unexpected(std::move(program.error())); }
  return Engine(std::move(*program));
}

Result<EngineLease, Error> Engine::acquire(
  const std::string& url, const EngineQuestion& question, EngineListener& listener)
{
  auto lease = acquire_lease(m_channel, url, question, listener);
  if (lease) { m_ttl = lease->ttl; }
  return lease;
}

// The engine is of no use any more; what it did says why.
Engine::Event Engine::lost(const std::string& what)
{
  m_channel.program().close_socket();
  return {Event::Kind::lost, k_as_before, m_channel.program().name() + what};
}

Engine::Event Engine::next_event()
{
  if (!socket().is_open()) { return {}; }
  const Received received = m_channel.receive();
  switch (received.kind) {
  case Received::Kind::nothing:
    return {};
  case Received::Kind::end:
    return lost(" has ended");
  case Received::Kind::nonsense:
    return lost(" sends " + received.complaint);
  case Received::Kind::message:
    break;
  }
  const Message& message = received.message;
  if (message.is("TROUBLE")) { return {Event::Kind::trouble, {}, text_of(message, "text")}; }
  const auto deadline = deadline_in(message, m_ttl);
  if (message.is("RENEWED")) {
    if (!deadline) { return lost(" sends a deadline that cannot be"); }
    return {Event::Kind::renewed, *deadline, {}};
  }
  // Without a deadline that can be, or with FAIL, another process may hold it already.
  const nanoseconds sure_until = deadline.value_or(nanoseconds(0));
  if (message.is("LOST")) { return {Event::Kind::lost, sure_until, text_of(message, "reason")}; }
  if (message.is("FAIL")) { return {Event::Kind::lost, sure_until, failure_in(message).detail}; }
  return lost(" sends an unexpected '" + message.verb() + "'");
}

Engine::Release Engine::release(nanoseconds patience)
{
  if (!socket().is_open() || !m_channel.send("RELEASE\n")) { return Release::unknown; }
  const nanoseconds until = sys::steady_now() + patience;
  for (;;) {
    const Received received = m_channel.await(until);
    m_channel.program().set_stuck(received.kind == Received::Kind::nothing);
    if (received.kind != Received::Kind::message) { return Release::unknown; }
    const Message& message = received.message;
    // With a text the engine has left something on the server.
    if (message.is("RELEASED")) { return message.text("text") ? Release::unknown : Release::done; }
    if (message.is("LOST")) { return Release::was_lost; }
    if (message.is("FAIL")) { return Release::unknown; }
  }
}

// What the original has read is missing here, perhaps up to the middle of a line: there is no answer to understand.
void Engine::release_unheard()
{
  if (socket().is_open()) { (void)m_channel.send("RELEASE\n"); }
}

} // namespace lockrun::remote
