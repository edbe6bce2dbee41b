#pragma once

#include <string>

namespace lockrun::text {

// "No such file or directory (ENOENT)", in English whatever the locale: people search for these words.
std::string errno_words(int code);

// "SIGTERM"; "64" for one that has no name, as those for real time.
std::string signal_name(int signal);

} // namespace lockrun::text
