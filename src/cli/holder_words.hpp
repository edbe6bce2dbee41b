#pragma once

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>
#include <lockrun/status.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace lockrun::cli {

// "exclusive", in tables and for programs.
const char* state_name(LockState state);
const char* mode_name(Mode mode);

// A command line (words separated by NUL, or an argv) on one line, as it is. Only the passwords in URLs are not shown.
std::string plain_command(std::string command_line);
std::string plain_command(const std::vector<char*>& argv);

// The same, but of a lockrun it is the command that it runs.
std::string command_run_by(std::string command_line);

// A command line (words separated by NUL) on one line, shortened and escaped. Of a lockrun it is the command that it
// runs: that is what people know, and the rest only says what they are being told anyway.
std::string command_words(std::string_view command_line, std::size_t columns = 60);

// As /etc/passwd has it, otherwise the number.
std::string user_name(uid_t user);

// "PID 4312 (rsync -a /srv /backup)".
std::string party_words(const Party& party);

// "PID 4312 (rsync -a /srv /backup, user root)", and behind that a note.
std::string user_words(const LockUser& user, std::string_view note = {});

// What follows "is ": "held by PID 4312 (rsync -a /srv /backup, user root) for 3m12s", "held by PID 1 (a), PID 2 (b),
// PID 3 (c) and 3 more". Says so when it is not certain, or cannot be seen, who it is.
std::string held_words(const LockStatus& status);

// "for 3m12s", "for at most 3m12s"; empty when nothing is known.
std::string held_time_words(const Holder& holder);

} // namespace lockrun::cli
