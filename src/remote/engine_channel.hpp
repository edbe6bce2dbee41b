#pragma once

#include "protocol/protocol.hpp"
#include "remote/engine_program.hpp"
#include "sys/descriptor.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <utility>

namespace lockrun::remote {

// How long an engine may take for an answer that it has from its server: it may have to find another one first.
inline constexpr std::chrono::seconds k_answer_limit{10};

// Messages to and from an engine program.
class EngineChannel {
public:
  explicit EngineChannel(EngineProgram program) : m_program(std::move(program)) {}

  // On the steady clock; none: no limit.
  using Limit = std::optional<std::chrono::nanoseconds>;

  struct Received {
    enum class Kind { message, nothing, end, nonsense };
    Kind kind = Kind::nothing;
    protocol::Message message{};
    std::string complaint{}; // nonsense
  };
  // What is there; `nothing` if nothing is.
  Received receive();
  // The next message before `until`; `nothing` when the time is up or `other` is readable.
  Received await(Limit until, const sys::Descriptor* other = nullptr);

  // False if the engine does not read. One that has ended is found out by receiving: after what it said last.
  bool send(const std::string& lines);
  // The same when an answer has to come: otherwise the engine is stuck.
  std::optional<Error> ask(const std::string& lines);

  // Says what we are, and where the lock is; and at once `wish`, if every engine can do it (null: not yet). Returns
  // what the engine is, or why it did not say so before `until`, or before one of `signals` came.
  Result<protocol::Message, Error> greet(
    const std::string& url, const protocol::Message* wish, Limit until, const sys::Descriptor* signals);

  // Gives nothing back: what is held runs out by itself.
  void abandon();

  // Why `received` is not what had to come.
  Error failure_of(const Received& received) const;

  EngineProgram& program() noexcept { return m_program; }
  const EngineProgram& program() const noexcept { return m_program; }

private:
  EngineProgram m_program;
  protocol::LineReader m_lines;
};

// The number of a signal that ends the call; 0 if none has come.
int ending_signal(const sys::Descriptor& signals);

// The call was ended by that signal.
Error interrupted_by(int signal);

} // namespace lockrun::remote
