#include "remote/engine_status.hpp"

#include "remote/engine_channel.hpp"
#include "remote/engine_messages.hpp"
#include "remote/engine_program.hpp"
#include "remote/engine_users.hpp"
#include "sys/clock.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

namespace lockrun::remote {
namespace {

using protocol::Message;
using Failed = tl::unexpected<Error>;

void add(LockStatus& status, const Message& user)
{
  const std::string_view text = user.text("text").value_or(""); // who it is, in words
  if (user.is("HOLDER")) {
    const Holder& holder = status.holders.emplace_back(holder_in(user, {}, text));
    const bool is_shared = holder.mode == Mode::shared || holder.slot;
    status.state = is_shared ? LockState::shared : LockState::exclusive;
  } else {
    Waiter& waiter = status.waiters.emplace_back(waiter_in(user, text));
    waiter.position = static_cast<std::size_t>(
      std::max<std::int64_t>(user.number("position").value_or(static_cast<std::int64_t>(status.waiters.size())), 1));
  }
}

} // namespace

Result<LockStatus, Error> engine_status(const std::string& url)
{
  auto program = EngineProgram::start(engine_name(url), {});
  if (!program) { return Failed(program.error()); }
  EngineChannel channel(std::move(*program));
  const auto greeted = channel.greet(url, nullptr, std::nullopt, nullptr);
  if (!greeted) { return Failed(greeted.error()); }
  if (!has_capability(text_of(*greeted, "can"), "status")) {
    return Failed(engine_error(Reason::engine_unable, "status", channel.program().name()));
  }
  if (auto deaf = channel.ask("STATUS\n")) { return Failed(*std::move(deaf)); }
  LockStatus status;
  status.state = LockState::free;
  const auto until = sys::steady_now() + k_answer_limit;
  for (;;) {
    const EngineChannel::Received received = channel.await(until);
    const Message& message = received.message;
    if (received.kind != EngineChannel::Received::Kind::message) { return Failed(channel.failure_of(received)); }
    if (message.is("END")) { return status; }
    if (message.is("FAIL")) { return Failed(failure_in(message)); }
    if (message.is("TROUBLE")) { continue; }
    if (!message.is("HOLDER") && !message.is("WAITER")) { return Failed(channel.failure_of(received)); }
    add(status, message);
  }
}

} // namespace lockrun::remote
