#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

// CLI11, which reads the values of options and writes --help, without its headers. They bring a dozen objects into
// every unit that includes them; here is the only such unit of the program, which makes them when it is first called.
namespace lockrun::cli {

// An option as it was given.
struct GivenOption {
  std::string name;                 // "-w", "--fd"; the same whichever of its names was used
  std::optional<std::string> value; // none for a flag
  // Takes the value, or "" for a flag; whether the value is a good one.
  std::function<bool(const std::string& value)> take;
};

// Hands the values over in the order in which they were given, up to the first bad one. Returns CLI11's complaint, or
// nothing.
std::optional<std::string> take_values(const std::vector<GivenOption>& given);

// An option as the help shows it.
struct HelpEntry {
  std::string names; // "-w,--wait"
  std::string value; // "DURATION", "[=DURATION]"; empty without one
  std::string text;  // may have several lines
  std::string topic; // the heading; entries of a topic stand together
};

// The text of --help.
std::string help_text(const std::string& usage, const std::vector<HelpEntry>& entries, const std::string& footer);

} // namespace lockrun::cli
