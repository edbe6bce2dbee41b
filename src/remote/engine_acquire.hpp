#pragma once

#include "remote/engine_channel.hpp"
#include "remote/engine_messages.hpp"
#include "sys/signal.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace lockrun::remote {

// What an engine is asked for.
struct EngineQuestion {
  const LockRequest& request;
  EngineWish wish;
  sys::SignalSet ended_by; // signals that end the wait; the caller has blocked them
};

// Hears what happens while we wait.
class EngineListener {
public:
  virtual ~EngineListener() = default;
  // Called as often as it asks for: returns how long until it wants to be called again. `waited` is since the
  // beginning.
  virtual std::chrono::nanoseconds waiting(
    std::chrono::nanoseconds waited, const std::string& holder, std::optional<std::int64_t> position) = 0;
  virtual void trouble(const std::string& text) = 0;
};

// Asks the engine for the lock at `url` and waits for it, within the limits of the request and some of our own: an
// engine that says nothing does not hold us up.
Result<EngineLease, Error> acquire_lease(
  EngineChannel& channel, const std::string& url, const EngineQuestion& question, EngineListener& listener);

} // namespace lockrun::remote
