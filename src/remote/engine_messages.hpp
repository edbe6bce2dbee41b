#pragma once

#include "protocol/protocol.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

// What lockrun asks of an engine, as a message, and what an engine's messages mean to lockrun: lockrun-engine(7).
namespace lockrun::remote {

// The longest time to live that an engine can be asked for.
inline constexpr std::chrono::milliseconds k_longest_ttl{protocol::k_longest_ttl};

// What it is asked for, besides the request.
struct EngineWish {
  std::chrono::nanoseconds ttl{}; // 0: the engine's default
  std::string command;            // for others to see
};

// A lock that the engine holds.
struct EngineLease {
  std::string token;
  std::string epoch;
  std::string key;
  std::optional<int> slot;
  std::chrono::nanoseconds deadline{}; // on the elapsed clock
  std::chrono::nanoseconds ttl{};
  bool is_ancestors = false; // nothing was granted: the lock of an ancestor of ours covers what was asked for
};

bool is_nonblocking(const LockRequest& request);

// With --max-waiters 0 no call may wait, and it is not the engine that has to know why.
bool may_wait(const LockRequest& request);

protocol::Message acquire_message(const LockRequest& request, const EngineWish& wish);

// What must be in `can=` for this and is not; null if nothing is missing.
const char* missing_capability(const LockRequest& request, std::string_view capabilities);

// Whether the list has the word.
bool has_capability(std::string_view capabilities, std::string_view wanted);

// The value, or an empty text.
std::string text_of(const protocol::Message& message, std::string_view key);

// What HELD grants. The error is what cannot be true of it: nothing is believed that cannot be.
tl::expected<EngineLease, const char*> lease_in(const protocol::Message& held);

// Until when the lock is ours, on the elapsed clock. None for a moment that cannot be: none can be further away than
// the whole time to live.
std::optional<std::chrono::nanoseconds> deadline_in(const protocol::Message& message, std::chrono::nanoseconds ttl);

// An error about an engine: `detail` and `holder` as Error has them.
Error engine_error(Reason reason, std::string detail, std::string holder = {});

// What FAIL says.
Error failure_in(const protocol::Message& failed);

} // namespace lockrun::remote
