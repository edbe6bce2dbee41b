#include "cli/system_log.hpp"

#include "sys/process.hpp"
#include "sys/socket.hpp"

#include <chrono>

#include <fmt/format.h>
#include <spdlog/details/log_msg.h>
#include <spdlog/sinks/sink.h>

#include <syslog.h>

namespace lockrun::cli {
namespace {

spdlog::level::level_enum level_of(Severity severity)
{
  switch (severity) {
  case Severity::note:
    return spdlog::level::info;
  case Severity::warning:
    return spdlog::level::warn;
  case Severity::failure:
    break;
  }
  return spdlog::level::err;
}

int priority_of(spdlog::level::level_enum level)
{
  if (level >= spdlog::level::err) { return LOG_ERR; }
  return level == spdlog::level::warn ? LOG_WARNING : LOG_INFO;
}

// The sink that spdlog has for the system's log brings its formatter along, 50 kB in a static program, and does not use
// it. And syslog(3) waits for ever for a log that does not read, which would keep us, and a lock, from ending.
class SystemLog final : public spdlog::sinks::sink {
public:
  void log(const spdlog::details::log_msg& message) override
  {
    constexpr std::chrono::milliseconds k_patience{100};
    // Without a time, which every log then adds: to know the local one would cost another 40 kB.
    const auto text =
      fmt::format("<{}>lockrun[{}]: {}", LOG_USER | priority_of(message.level), sys::process_id(), message.payload);
    (void)sys::send_message("/dev/log", text, k_patience); // without a log there is nobody to tell it to
  }
  void flush() override {}
  void set_pattern(const std::string& /*pattern*/) override {}
  void set_formatter(std::unique_ptr<spdlog::formatter> /*formatter*/) override {}
};

} // namespace

void log_to_system(Severity severity, std::string_view text)
{
  // The sink alone: a logger and its registry are of no use for a line or two.
  SystemLog sink;
  sink.log({"lockrun", level_of(severity), spdlog::string_view_t(text.data(), text.size())});
}

} // namespace lockrun::cli
