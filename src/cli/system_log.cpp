#include "cli/system_log.hpp"

#include <spdlog/details/log_msg.h>
#include <spdlog/sinks/syslog_sink.h>

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

} // namespace

void log_to_system(Severity severity, std::string_view text)
{
  // The sink alone: a logger and its registry are of no use for a line or two.
  spdlog::sinks::syslog_sink_st sink("lockrun", LOG_PID, LOG_USER, false);
  sink.log({"lockrun", level_of(severity), spdlog::string_view_t(text.data(), text.size())});
}

} // namespace lockrun::cli
