#pragma once

#include "timeline/terminal.hpp"

#include <lockrun/error.hpp>

#include <optional>
#include <string>
#include <vector>

namespace lockrun::timeline {

struct Options {
  enum class Action { draw, help, version } action = Action::draw;
  std::vector<std::string> files; // "-": standard input
  std::string svg;                // empty: none; "-": to standard output
  std::optional<std::size_t> width;
  Selection selection;
};

// The error says what is wrong with the command line.
Result<Options, std::string> parse_options(int argc, char** argv);

std::string help();

// What standard output and the environment are made for.
Paper paper_of(const Options& options);

} // namespace lockrun::timeline
