#include "engines/messages.hpp"

#include "engines/lease.hpp"

#include <algorithm>
#include <sysexits.h>
#include <utility>

#include <fmt/format.h>

namespace lockrun::engines {
namespace {

using protocol::Message;

const char* name_of(Mode mode)
{
  return mode == Mode::shared ? "shared" : "exclusive";
}

Owner owner_in(const Message& message)
{
  Owner owner;
  owner.host = message.text("host").value_or("");
  owner.pid = message.number("pid").value_or(0);
  owner.user = message.text("user").value_or("");
  owner.command = message.text("command").value_or("");
  owner.since_ms = message.number("since_ms").value_or(0);
  owner.instance = message.text("instance").value_or("");
  return owner;
}

void add_owner(Message& message, const std::optional<Owner>& owner, const std::string& prefix)
{
  if (!owner) { return; }
  message.with(prefix + "host", owner->host).with(prefix + "pid", owner->pid);
  message.with(prefix + "user", owner->user).with(prefix + "command", owner->command);
  message.with(prefix + "since_ms", owner->since_ms);
  if (!owner->instance.empty()) { message.with(prefix + "instance", owner->instance); }
}

Message waiting_message(std::int64_t position, const std::optional<Contender>& holder)
{
  Message message("WAITING");
  if (position > 0) { message.with("position", position); }
  if (holder) {
    message.with("holder", holder->text).with("holder_mode", name_of(holder->mode));
    if (holder->slot) { message.with("holder_slot", *holder->slot); }
    add_owner(message, holder->owner, "holder_");
  }
  return message;
}

} // namespace

Result<Demand, Failure> demand_in(const Message& acquire)
{
  const tl::unexpected unknown(Failure{EX_PROTOCOL, "refused", "it asks for what this engine does not know"});
  Demand demand;
  const auto mode = acquire.text("mode").value_or("exclusive");
  if (mode != "exclusive" && mode != "shared") { return unknown; }
  demand.mode = mode == "shared" ? Mode::shared : Mode::exclusive;
  demand.slots = static_cast<int>(std::clamp<std::int64_t>(acquire.number("slots").value_or(0), 0, 256));
  const std::int64_t wait = acquire.number("wait_ms").value_or(-1);
  demand.wait = acquire.number("nonblock").value_or(0) != 0 || wait == 0 ? Wait::never : Wait::allowed;
  if (wait > 0) { demand.patience = milliseconds(wait); }
  const std::int64_t waiters = acquire.number("max_waiters").value_or(0);
  if (waiters > 0) { demand.max_waiters = static_cast<int>(std::min<std::int64_t>(waiters, 1'000'000)); }
  const std::int64_t ttl = acquire.number("ttl_ms").value_or(0);
  if (ttl < 0 || ttl > protocol::k_longest_ttl) { return unknown; }
  demand.ttl = ttl > 0 ? milliseconds(ttl) : k_default_ttl;
  if (demand.ttl < k_shortest_ttl) {
    return tl::unexpected(
      usage(fmt::format("ttl={}ms leaves no time to renew the lease", demand.ttl.count()), "it is 2s at least"));
  }
  demand.owner = owner_in(acquire);
  return demand;
}

std::int64_t in_milliseconds(Instant moment)
{
  return std::chrono::duration_cast<milliseconds>(moment).count();
}

std::string waiting_lines(const Standing& standing)
{
  std::string lines;
  for (const Contender& one : standing.nearby) { lines += protocol::format(waiting_message(standing.position, one)); }
  return lines + protocol::format(waiting_message(standing.position, standing.holder));
}

Message held_message(const Ownership& owned, Instant deadline)
{
  Message held("HELD");
  held.with("token", owned.token).with("deadline", in_milliseconds(deadline));
  held.with("ttl_ms", owned.ttl.count()).with("key", owned.key);
  if (!owned.epoch.empty()) { held.with("epoch", owned.epoch); }
  if (owned.slot) { held.with("slot", *owned.slot); }
  return held;
}

Message contender_message(const Contender& contender)
{
  Message message(contender.waits ? "WAITER" : "HOLDER");
  if (contender.waits) { message.with("position", contender.position); }
  message.with("mode", name_of(contender.mode));
  if (!contender.token.empty()) { message.with("token", contender.token); }
  if (contender.slot) { message.with("slot", *contender.slot); }
  message.with("text", contender.text);
  add_owner(message, contender.owner, "");
  return message;
}

Message fail_message(const Failure& failure)
{
  Message message("FAIL");
  message.with("status", failure.status).with("reason", failure.reason).with("text", failure.text);
  if (!failure.holder.empty()) { message.with("holder", failure.holder); }
  if (!failure.hint.empty()) { message.with("hint", failure.hint); }
  return message;
}

} // namespace lockrun::engines
