#pragma once

#include <string_view>

namespace lockrun::cli {

enum class Severity { note, warning, failure };

// One line in the system's log (syslog(3)), from "lockrun". `text` has no control characters. A log that does not take
// it within 100 ms loses it.
void log_to_system(Severity severity, std::string_view text);

} // namespace lockrun::cli
