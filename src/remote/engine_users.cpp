#include "remote/engine_users.hpp"

#include <algorithm>
#include <limits>
#include <string>

namespace lockrun::remote {
namespace {

using protocol::Message;

// The fields with one prefix.
class Fields {
public:
  Fields(const Message& message, std::string_view prefix) : m_message(message), m_prefix(prefix) {}

  std::string text(std::string_view key) const { return std::string(m_message.text(name(key)).value_or("")); }
  std::optional<std::int64_t> number(std::string_view key) const { return m_message.number(name(key)); }
  Mode mode() const { return text("mode") == "shared" ? Mode::shared : Mode::exclusive; }

private:
  std::string name(std::string_view key) const { return std::string(m_prefix).append(key); }

  const Message& m_message;
  std::string_view m_prefix;
};

void describe(LockUser& user, const Fields& fields, std::string_view text)
{
  user.pid = static_cast<pid_t>(
    std::clamp<std::int64_t>(fields.number("pid").value_or(0), 0, std::numeric_limits<pid_t>::max()));
  user.api = LockApi::engine;
  user.host = fields.text("host");
  user.user_name = fields.text("user");
  user.command = fields.text("command");
  if (user.command.empty()) { user.command = text; }   // of some holders only these words are known
  constexpr std::int64_t k_last = 253'402'300'799'999; // the end of the year 9999
  const auto since = fields.number("since_ms");
  if (since && *since > 0 && *since <= k_last) { user.since = std::chrono::milliseconds(*since); }
}

} // namespace

Holder holder_in(const Message& message, std::string_view prefix, std::string_view text)
{
  const Fields fields(message, prefix);
  Holder holder;
  describe(holder, fields, text);
  holder.mode = fields.mode();
  holder.since_kind = Holder::SinceKind::acquired;
  holder.token = fields.text("token");
  if (const auto slot = fields.number("slot"); slot && *slot >= 0) { holder.slot = static_cast<unsigned>(*slot); }
  return holder;
}

Waiter waiter_in(const Message& message, std::string_view text)
{
  const Fields fields(message, {});
  Waiter waiter;
  describe(waiter, fields, text);
  waiter.mode = fields.mode();
  return waiter;
}

} // namespace lockrun::remote
