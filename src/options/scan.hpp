#pragma once

#include "options/option_table.hpp"
#include "options/parse.hpp"

#include <lockrun/error.hpp>

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lockrun::cli {

// An option as it stands on the command line.
struct Occurrence {
  const OptionSpec* option;
  std::string_view name; // the one of its names that was meant: "w", "timeout"
  char* value;           // points into argv; null without one
};

// With its dashes: "-w", "--timeout".
std::string spelled(const Occurrence& occurrence);

struct Scanned {
  std::vector<Occurrence> options; // in their order; -h and -V end the scan
  int operands;                    // index of the first argument that is no option; argc if there is none
};

// Walks along the options up to the first operand, as getopt_long(3) does with a leading '+': letters bundle (-nE 9,
// -w5), long names may be cut to an unambiguous prefix and take --name=value and --name value, `--` ends the options.
// It knows names and whether a value belongs to them, not what values mean.
Result<Scanned, UsageError> scan(std::span<const OptionSpec> table, int argc, char* const* argv);

} // namespace lockrun::cli
