#include "remote/engine_status.hpp"

#include "remote/engine_users.hpp"

#include <algorithm>

namespace lockrun::remote {

Result<LockStatus, Error> engine_status(const std::string& url)
{
  auto engine = Engine::start(engine_name(url), {});
  if (!engine) { return tl::unexpected(engine.error()); }
  const auto users = engine->status(url);
  if (!users) { return tl::unexpected(users.error()); }
  LockStatus status;
  status.state = LockState::free;
  for (const protocol::Message& message : *users) {
    const std::string_view text = message.text("text").value_or(""); // who it is, in words
    if (message.is("HOLDER")) {
      const Holder& holder = status.holders.emplace_back(holder_in(message, {}, text));
      const bool is_shared = holder.mode == Mode::shared || holder.slot;
      status.state = is_shared ? LockState::shared : LockState::exclusive;
    } else {
      Waiter& waiter = status.waiters.emplace_back(waiter_in(message, text));
      waiter.position = static_cast<std::size_t>(std::max<std::int64_t>(
        message.number("position").value_or(static_cast<std::int64_t>(status.waiters.size())), 1));
    }
  }
  return status;
}

} // namespace lockrun::remote
