#pragma once

#include "flock/sizes.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <optional>
#include <string>
#include <vector>

namespace lockrun::flock {

// Everything that the command line said.
struct Call {
  std::string lock; // the path as it was written
  LockRequest request;
  bool unlocks = false;
  bool never_waits = false;
  std::optional<TimeLimit> limit;
  int conflict_exit_code = 1;
  bool closes = false;
  bool becomes_command = false;
  bool verbose = false;
  std::vector<char*> command; // ends with a null pointer; empty: there is none
};

// What the command line says, or the exit status of a failure, or of --help, that has been told. What a timer cannot be
// set to is no failure here: as in flock(1), that is found out when the lock file has been made.
Result<Call, int> read_command_line(int argc, char** argv);

// Each tells a failure in the words of flock(1), and returns `status`.
int fail(int status, const char* what);
int fail(int status, const char* what, const char* which);
int fail_with_code(int status, const std::string& what, int code);

} // namespace lockrun::flock
