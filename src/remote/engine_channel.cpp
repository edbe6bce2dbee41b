#include "remote/engine_channel.hpp"

#include "remote/engine_messages.hpp"
#include "sys/channel.hpp"
#include "sys/clock.hpp"
#include "sys/process.hpp"
#include "sys/signal.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <string>
#include <sysexits.h>

namespace lockrun::remote {
namespace {

using protocol::Message;
using std::chrono::nanoseconds;
using Failed = tl::unexpected<Error>;

// An engine answers our greeting before it asks its server.
constexpr std::chrono::seconds k_greeting{5};

} // namespace

int ending_signal(const sys::Descriptor& signals)
{
  for (;;) {
    const auto signal = sys::read_signal(signals);
    if (!signal || !*signal) { return 0; }
    const auto disposition = sys::disposition((*signal)->number);
    if (disposition.value_or(sys::Disposition::standard) != sys::Disposition::ignored) { return (*signal)->number; }
  }
}

Error interrupted_by(int signal)
{
  return {Reason::interrupted, {}, {nullptr, signal}};
}

EngineChannel::Received EngineChannel::receive()
{
  for (;;) {
    std::string line;
    switch (m_lines.next(line)) {
    case protocol::LineReader::State::too_long:
      return {Received::Kind::nonsense, {}, "a line longer than 64 KiB"};
    case protocol::LineReader::State::line: {
      auto message = protocol::parse(line);
      if (!message) { return {Received::Kind::nonsense, {}, "a line of which " + std::string(message.error())}; }
      return {Received::Kind::message, std::move(*message), {}};
    }
    case protocol::LineReader::State::incomplete:
      break;
    }
    std::array<std::byte, 4096> room{};
    const auto count = sys::receive(m_program.socket(), room);
    if (!count && count.error().code == EAGAIN) { return {Received::Kind::nothing}; }
    if (!count || *count == 0) { return {Received::Kind::end}; }
    m_lines.add({reinterpret_cast<const char*>(room.data()), *count});
  }
}

EngineChannel::Received EngineChannel::await(Limit until, const sys::Descriptor* other)
{
  static const sys::Descriptor k_nothing;
  for (;;) {
    Received received = receive();
    if (received.kind != Received::Kind::nothing) { return received; }
    Limit left;
    if (until) {
      left = *until - sys::steady_now();
      if (*left <= nanoseconds(0)) { return received; }
    }
    const auto ready = sys::wait_readable({&m_program.socket(), other != nullptr ? other : &k_nothing}, left);
    if (ready && (*ready & 2U) != 0) { return received; }
  }
}

bool EngineChannel::send(const std::string& lines)
{
  // A fresh socket has room for more than our longest line.
  const auto sent = sys::send(m_program.socket(), std::as_bytes(std::span(lines)));
  return sent ? *sent == lines.size() : sent.error().code != EAGAIN;
}

std::optional<Error> EngineChannel::ask(const std::string& lines)
{
  const bool is_sent = send(lines);
  m_program.set_stuck(!is_sent);
  return is_sent ? std::nullopt : std::optional(failure_of({}));
}

Result<Message, Error> EngineChannel::greet(
  const std::string& url, const Message* wish, Limit until, const sys::Descriptor* signals)
{
  const Message introduction = Message("LOCKRUN").with("version", protocol::k_version).with("url", url);
  if (!protocol::fits(introduction)) {
    Error refused = engine_error(Reason::engine_refused, "its URL is too long for an engine");
    refused.status = EX_USAGE;
    return Failed(std::move(refused));
  }
  std::string lines = protocol::format(introduction);
  if (wish != nullptr) { lines += protocol::format(*wish); }
  if (auto deaf = ask(lines)) { return Failed(*std::move(deaf)); }
  const nanoseconds enough = sys::steady_now() + k_greeting;
  const nanoseconds limit = until ? std::min(*until, enough) : enough;
  Received received = await(limit, signals);
  while (received.kind == Received::Kind::nothing && signals != nullptr && sys::steady_now() < limit) {
    if (const int signal = ending_signal(*signals); signal != 0) {
      abandon();
      return Failed(interrupted_by(signal));
    }
    received = await(limit, signals);
  }
  m_program.set_stuck(received.kind == Received::Kind::nothing);
  const Message& message = received.message;
  if (received.kind == Received::Kind::message && message.is("FAIL")) { return Failed(failure_in(message)); }
  if (received.kind != Received::Kind::message || !message.is("ENGINE")) { return Failed(failure_of(received)); }
  if (message.number("version") == protocol::k_version) { return std::move(received.message); }
  return Failed(engine_error(Reason::engine_nonsense, m_program.name(),
    "version " + text_of(message, "version") + " of the protocol, where we speak 1"));
}

void EngineChannel::abandon()
{
  if (m_program.socket().is_open()) { (void)send("ABANDON\n"); }
}

Error EngineChannel::failure_of(const Received& received) const
{
  switch (received.kind) {
  case Received::Kind::end:
    return m_program.why_ended();
  case Received::Kind::nonsense:
    return engine_error(Reason::engine_nonsense, m_program.name(), received.complaint);
  case Received::Kind::message:
    return engine_error(Reason::engine_nonsense, m_program.name(), "an unexpected '" + received.message.verb() + "'");
  case Received::Kind::nothing:
    break;
  }
  return engine_error(Reason::engine_silent, m_program.name());
}

} // namespace lockrun::remote
