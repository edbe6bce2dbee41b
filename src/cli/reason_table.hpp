#pragma once

#include "cli/json.hpp"
#include "cli/system_log.hpp"

#include <lockrun/error.hpp>

namespace lockrun::cli {

// What a failure means to those who called us: how loud it is, our exit status, and the outcome in an event.
struct ReasonRow {
  enum Special : int {
    k_conflict = -1, // what -E says
    k_signal = -2,   // 128 and the signal's number
    k_errno = -3,    // by the kernel's answer
    k_engines = -4,  // what the engine says
  };

  Reason reason;
  Severity severity;
  int exit_code; // or one of the above
  CallOutcome outcome;
};

const ReasonRow& row_of(Reason reason);

} // namespace lockrun::cli
