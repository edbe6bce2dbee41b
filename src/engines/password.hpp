#pragma once

#include "engines/backend.hpp"

#include <optional>
#include <string>

namespace lockrun::engines {

// The password that the user has given: that of the URL, what the file has that `password-file` names, or else the
// value of this variable of the environment. None: none of them.
Result<std::optional<std::string>, Failure> given_password(const Url& url, const char* variable);

// The first line of the file, without its end. The file must be a regular one that belongs to this user or to root,
// and to which no other user has access. Never blocks on a FIFO or a device.
Result<std::string, Failure> read_password_file(const std::string& path);

} // namespace lockrun::engines
