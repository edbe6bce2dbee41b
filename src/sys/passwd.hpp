#pragma once

#include <optional>
#include <string>

#include <sys/types.h>

namespace lockrun::sys {

// passwd(5).
inline constexpr const char* k_users = "/etc/passwd";

// The name of `user` from /etc/passwd, read by ourselves: getpwuid(3) goes through NSS, whose shared libraries a static
// program may not find. None for a user that is only known elsewhere.
std::optional<std::string> user_name(uid_t user, const char* file = k_users);

} // namespace lockrun::sys
