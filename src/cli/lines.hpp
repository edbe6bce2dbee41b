#pragma once

#include "options/call.hpp"
#include "options/parse.hpp"

#include <string_view>

namespace lockrun::cli {

// One line on standard error, "lockrun: " and the text. Waits for a slow reader, for three seconds at most; after one
// that did not read at all, nothing is written any more.
void tell(std::string_view text);

// The same for those who have to go on whether anybody reads or not: a full pipe must not keep a tree from being ended.
void tell_now(std::string_view text);

// "hint: ..."; nothing if it is empty, or with --quiet.
void tell_hint(std::string_view text, Verbosity verbosity);

// A command line that means nothing.
void tell(const UsageError& error);

} // namespace lockrun::cli
