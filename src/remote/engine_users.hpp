#pragma once

#include "protocol/protocol.hpp"

#include <lockrun/status.hpp>

#include <string_view>

namespace lockrun::remote {

// A process that an engine's message describes in its fields `host`, `pid`, `user`, `command`, `since_ms`, `mode`,
// `slot` and `token`, each with `prefix` in front. What is missing stays unknown; `text` stands for a command that is.
Holder holder_in(const protocol::Message& message, std::string_view prefix, std::string_view text);
Waiter waiter_in(const protocol::Message& message, std::string_view text);

} // namespace lockrun::remote
