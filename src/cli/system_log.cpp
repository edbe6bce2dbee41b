#include "cli/system_log.hpp"

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
// it.
class SystemLog final : public spdlog::sinks::sink {
public:
  SystemLog() { ::openlog("lockrun", LOG_PID, LOG_USER); }
  ~SystemLog() override { ::closelog(); }
  SystemLog(const SystemLog&) = delete;
  SystemLog& operator=(const SystemLog&) = delete;

  void log(const spdlog::details::log_msg& message) override
  {
    const auto& text = message.payload;
    ::syslog(priority_of(message.level), "%.*s", static_cast<int>(text.size()), text.data());
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
