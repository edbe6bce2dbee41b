#pragma once

#include "options/option_table.hpp"

#include <map>
#include <string>

// A value that each option takes. An option with a new kind of value needs a new row.
inline std::string sample_value(const lockrun::cli::OptionSpec& option)
{
  static const std::map<std::string, std::string> k_samples = {
    {"DURATION", "1m"},
    {"N", "3"},
    {"STRING", "true"},
    {"PATH", "/bin/bash"},
    {"command|tree|wrapper", "wrapper"},
    {"NAME", "INT"},
    {"fail|run|wait", "run"},
    {"flock|ofd|both", "ofd"},
    {"FD", "9"},
    {"OCTAL", "600"},
    {"FILE|fd:N", "fd:9"},
    {"LOCK", "M"},
  };
  const auto sample = k_samples.find(option.value_name);
  return sample == k_samples.end() ? "no sample for " + std::string(option.value_name) : sample->second;
}
