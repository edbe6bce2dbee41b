#pragma once

#include "sys/mount.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <optional>
#include <string>

namespace lockrun {

// Whether one kind of lock does what it is for.
struct ProbedLock {
  enum class Outcome {
    excludes,
    does_not_exclude, // two have it at once
    is_not_released,  // it is busy although nobody has it
    refused,          // the file system does not know it; see cause
    not_tried,        // a directory, or a file that may not be written
  };
  Outcome outcome = Outcome::not_tried;
  SysError cause{};
};

struct Probe {
  std::string file; // what was locked: LOCK itself, or a file made beside it for that moment
  std::optional<sys::Mount> mount;
  ProbedLock flock;
  ProbedLock ofd;
  bool see_each_other = false; // who has the one keeps others from the other
};

// Opens the file twice and lets the one exclude the other. When it is missing or held by somebody, a file is made
// beside it and removed again. Of name:NAME the directory is made and stays. Reasons: open_failed, wrong_type,
// unsafe_place, lock_failed, busy (held, and no file can be made beside it).
Result<Probe, Error> probe(const LockRequest& request);

} // namespace lockrun
