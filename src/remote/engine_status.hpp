#pragma once

#include <lockrun/error.hpp>
#include <lockrun/status.hpp>

#include <string>

namespace lockrun::remote {

// Who holds the lock at `url`, and who waits for it, as its engine reports. Starts one for that.
Result<LockStatus, Error> engine_status(const std::string& url);

} // namespace lockrun::remote
