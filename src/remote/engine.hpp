#pragma once

#include "remote/engine_acquire.hpp"
#include "remote/engine_channel.hpp"
#include "remote/engine_messages.hpp"
#include "sys/descriptor.hpp"
#include "sys/signal.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <string>
#include <string_view>
#include <utility>

namespace lockrun::remote {

// Our end of the conversation with an engine program, which holds a lock beyond this machine for us: lockrun-engine(7).
// Its end leaves: what is held runs out by itself, what is waited for is given up.
class Engine {
public:
  // As EngineProgram::start().
  static Result<Engine, Error> start(std::string_view name, const sys::SignalSet& inherited);

  // As acquire_lease().
  Result<EngineLease, Error> acquire(const std::string& url, const EngineQuestion& question, EngineListener& listener);

  // While it is held.
  struct Event {
    enum class Kind { none, renewed, trouble, lost };
    Kind kind = Kind::none;
    std::chrono::nanoseconds deadline{}; // renewed, lost: until when it is certainly ours; k_as_before: as we know
    std::string text{};                  // trouble, lost
  };
  static constexpr std::chrono::nanoseconds k_as_before = std::chrono::nanoseconds::max();
  Event next_event();
  // Closed after a loss that leaves nothing to hear.
  const sys::Descriptor& socket() const noexcept { return m_channel.program().socket(); }

  // Gives the lock back and waits until it is gone, for `patience` at most. Whether the engine said so, or else what
  // it said.
  enum class Release { done, unknown, was_lost };
  Release release(std::chrono::nanoseconds patience);

  // Gives nothing back: the lock runs out by itself.
  void abandon() { m_channel.abandon(); }

  // In a copy of this process, whose original is gone: gives the lock back, without hearing what becomes of it.
  void release_unheard();

  pid_t pid() const noexcept { return m_channel.program().pid(); }

private:
  explicit Engine(EngineProgram program) : m_channel(std::move(program)) {}
  Event lost(const std::string& what);

  EngineChannel m_channel;
  std::chrono::nanoseconds m_ttl{};
};

} // namespace lockrun::remote
