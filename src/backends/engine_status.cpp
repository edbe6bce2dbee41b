#include "backends/engine_status.hpp"

#include "sys/signal.hpp"

#include <algorithm>
#include <limits>

namespace lockrun::backends {
namespace {

using protocol::Message;

std::string text_of(const Message& message, std::string_view key)
{
  return std::string(message.text(key).value_or(std::string_view()));
}

Mode mode_of(const Message& message)
{
  return message.text("mode") == "shared" ? Mode::shared : Mode::exclusive;
}

void describe(LockUser& user, const Message& message)
{
  user.pid = static_cast<pid_t>(
    std::clamp<std::int64_t>(message.number("pid").value_or(0), 0, std::numeric_limits<pid_t>::max()));
  user.api = LockApi::engine;
  user.host = text_of(message, "host");
  user.user_name = text_of(message, "user");
  user.command = text_of(message, "command");
  if (user.command.empty()) { user.command = text_of(message, "text"); } // all that is known of some
  constexpr std::int64_t k_last = 253'402'300'799'999;                   // the end of the year 9999
  const auto since = message.number("since_ms");
  if (since && *since > 0 && *since <= k_last) { user.since = std::chrono::milliseconds(*since); }
}

} // namespace

EngineResult<LockStatus> engine_status(const std::string& url)
{
  auto engine = Engine::start(engine_name(url), {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2});
  if (!engine) { return tl::unexpected(engine.error()); }
  const auto users = engine->status(url);
  if (!users) { return tl::unexpected(users.error()); }
  LockStatus status;
  status.state = LockState::free;
  for (const Message& message : *users) {
    if (message.is("HOLDER")) {
      Holder& holder = status.holders.emplace_back();
      describe(holder, message);
      holder.mode = mode_of(message);
      holder.since_kind = Holder::SinceKind::acquired;
      holder.token = text_of(message, "token");
      if (const auto slot = message.number("slot"); slot && *slot >= 0) { holder.slot = static_cast<unsigned>(*slot); }
      const bool is_shared = holder.mode == Mode::shared || holder.slot;
      status.state = is_shared ? LockState::shared : LockState::exclusive;
    } else {
      Waiter& waiter = status.waiters.emplace_back();
      describe(waiter, message);
      waiter.mode = mode_of(message);
      waiter.position = static_cast<std::size_t>(std::max<std::int64_t>(
        message.number("position").value_or(static_cast<std::int64_t>(status.waiters.size())), 1));
    }
  }
  return status;
}

} // namespace lockrun::backends
