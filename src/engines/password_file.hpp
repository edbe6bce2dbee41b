#pragma once

#include "engines/session.hpp"

#include <string>

namespace lockrun::engines {

// The first line of the file, without its end. The file must be a regular one that belongs to this user or to root,
// and to which no other user has access. Never blocks on a FIFO or a device.
Result<std::string, Failure> read_password_file(const std::string& path);

} // namespace lockrun::engines
