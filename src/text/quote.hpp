#pragma once

#include <string>
#include <string_view>

namespace lockrun::text {

// A foreign string, fit for a message on a terminal: in single quotes, on one line, and nothing in it can be obeyed by
// the terminal or turn the text around. What is escaped is written as in bash's $'...': \n, \', \\, \x1b. Valid UTF-8
// is kept, single bytes of anything else are escaped.
std::string quoted(std::string_view text);

// The same without the quotes around it, and quotes in it as they are: for a command line in parentheses.
std::string escaped(std::string_view text);

} // namespace lockrun::text
