#pragma once

#include "options/call.hpp"

#include <lockrun/error.hpp>

#include <string>

namespace lockrun::cli {

// Everything that the command line said: a call, or with --status and --probe a question.
struct Options {
  Call call;
  Question question;
};

// A command line that means nothing, in words without the "lockrun: " in front; foreign words in it are quoted.
struct UsageError {
  std::string text;
  std::string hint; // may be empty; what to do about it, when that is certain
};

// Reads the command line. `argv` ends with a null pointer and must outlive the options. What it returns is checked:
// there is a command exactly if the action is `run`; there is a path or a descriptor unless it is `help`, `version` or
// `status`.
Result<Options, UsageError> parse_options(int argc, char* const* argv);

// The text of --help: options grouped by topic, and five examples.
std::string help();

} // namespace lockrun::cli
