#include "remote/engine_messages.hpp"

#include "remote/process_instance.hpp"
#include "sys/clock.hpp"
#include "sys/passwd.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"
#include "text/ascii.hpp"

#include <algorithm>
#include <utility>

namespace lockrun::remote {
namespace {

using protocol::Message;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using Wrong = tl::unexpected<const char*>;

std::int64_t in_ms(nanoseconds duration)
{
  return std::chrono::ceil<milliseconds>(duration).count();
}

// A number, or a text that stays one word in whatever it is put into.
bool is_token(std::string_view text)
{
  constexpr std::size_t k_longest = 256;
  const auto fits = [](char c) {
    return text::is_letter_or_digit(c) || std::string_view("/:._+-").find(c) != std::string_view::npos;
  };
  return !text.empty() && text.size() <= k_longest && text::is_letter_or_digit(text.front()) &&
         std::all_of(text.begin(), text.end(), fits);
}

} // namespace

bool is_nonblocking(const LockRequest& request)
{
  return request.patience && *request.patience == nanoseconds(0);
}

bool may_wait(const LockRequest& request)
{
  return !is_nonblocking(request) && request.max_waiters != 0;
}

Message acquire_message(const LockRequest& request, const EngineWish& wish)
{
  const bool is_limited = request.patience && may_wait(request);
  const auto user = sys::effective_user();
  const auto self = sys::process_status(sys::process_id());
  constexpr std::size_t k_enough = 256; // others want to recognise the command, not to repeat it
  return Message("ACQUIRE")
    .with("mode", request.mode == Mode::shared ? "shared" : "exclusive")
    .with("slots", request.slots)
    .with("nonblock", may_wait(request) ? 0 : 1)
    .with("wait_ms", is_limited ? in_ms(*request.patience) : -1)
    .with("max_waiters", request.max_waiters.value_or(0))
    .with("ttl_ms", in_ms(wish.ttl))
    .with("host", sys::host_name().value_or("localhost"))
    .with("pid", sys::process_id())
    .with("user", sys::user_name(user).value_or(std::to_string(user)))
    .with("command", std::string_view(wish.command).substr(0, k_enough))
    .with("since_ms", in_ms(sys::wall_now()))
    .with("instance", self ? instance_of(*self) : std::string());
}

bool has_capability(std::string_view capabilities, std::string_view wanted)
{
  while (!capabilities.empty()) {
    const std::string_view word = capabilities.substr(0, capabilities.find(','));
    if (word == wanted) { return true; }
    capabilities.remove_prefix(std::min(capabilities.size(), word.size() + 1));
  }
  return false;
}

const char* missing_capability(const LockRequest& request, std::string_view capabilities)
{
  const auto has = [capabilities](std::string_view wanted) { return has_capability(capabilities, wanted); };
  if (request.mode == Mode::shared && !has("shared")) { return "shared"; }
  if (request.slots > 0 && !has("slots")) { return "slots"; }
  if (request.max_waiters.value_or(0) > 0 && !has("max_waiters")) { return "max_waiters"; }
  if (request.fair && !has("fair")) { return "fair"; }
  return nullptr;
}

std::string text_of(const Message& message, std::string_view key)
{
  return std::string(message.text(key).value_or(std::string_view()));
}

tl::expected<EngineLease, const char*> lease_in(const Message& held)
{
  const auto ttl = held.number("ttl_ms");
  if (!ttl || *ttl <= 0 || *ttl > protocol::k_longest_ttl) { return Wrong("a lock without a time to live"); }
  EngineLease lease;
  lease.ttl = milliseconds(*ttl);
  lease.token = text_of(held, "token");
  if (!is_token(lease.token)) { return Wrong("a lock without a token"); }
  const auto deadline = deadline_in(held, lease.ttl);
  if (!deadline) { return Wrong("a deadline that cannot be"); }
  lease.deadline = *deadline;
  lease.epoch = text_of(held, "epoch");
  lease.key = text_of(held, "key");
  if (const auto slot = held.number("slot")) { lease.slot = static_cast<int>(*slot); }
  return lease;
}

std::optional<nanoseconds> deadline_in(const Message& message, nanoseconds ttl)
{
  const auto deadline = message.number("deadline");
  if (!deadline || *deadline <= 0 || *deadline > in_ms(sys::elapsed_now() + ttl)) { return std::nullopt; }
  return milliseconds(*deadline);
}

Error engine_error(Reason reason, std::string detail, std::string holder)
{
  Error error{reason, {}};
  error.detail = std::move(detail);
  error.holder = std::move(holder);
  return error;
}

Error failure_in(const Message& failed)
{
  const std::string reason = text_of(failed, "reason");
  Error error = engine_error(Reason::engine_refused, text_of(failed, "text"), text_of(failed, "holder"));
  if (reason == "busy") { error.reason = Reason::busy; }
  if (reason == "timed_out") { error.reason = Reason::timed_out; }
  if (reason == "too_many_waiters") { error.reason = Reason::too_many_waiters; }
  error.status = static_cast<int>(std::clamp<std::int64_t>(failed.number("status").value_or(0), 0, 255));
  error.hint = text_of(failed, "hint");
  if (error.detail.empty()) { error.detail = reason; }
  return error;
}

} // namespace lockrun::remote
