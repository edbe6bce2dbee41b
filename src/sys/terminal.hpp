#pragma once

#include <optional>

namespace lockrun::sys {

// Whether standard error is a terminal whose foreground process group is ours (isatty(3), tcgetpgrp(3)): only then may
// we draw on it.
bool owns_terminal();

// Whether the foreground process group of our controlling terminal is another one.
bool is_in_background();

// How many columns the terminal at standard error has now (TIOCGWINSZ); none when it does not say.
std::optional<unsigned> terminal_columns();

// The same of the terminal at standard output, 0 when it does not say; none when that is no terminal.
std::optional<unsigned> output_columns();

} // namespace lockrun::sys
