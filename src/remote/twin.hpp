#pragma once

#include "child/supervise.hpp"
#include "remote/lease_clock.hpp"
#include "sys/descriptor.hpp"

namespace lockrun::remote {

class LeaseConnection;

// Guard and twin exchange packets. Both are the same program in the same place, so pointers to its words are good.

// From the guard to the twin.
struct Order {
  enum class Kind {
    pass_on, // a signal that the guard got
    look,    // the deadline has come nearer
    resume,  // the guard had stopped together with the command, and goes on
  };
  Kind kind = Kind::look;
  sys::Signal signal{};
};

// From the twin to the guard.
struct Report {
  enum class Kind { started, stopped, witness_made, cannot_end, ended, not_started, too_late };
  Kind kind = Kind::started;
  pid_t process = 0;                                   // the command, or the one that was made
  int signal = 0;                                      // stopped: by this one
  child::Ending::How how = child::Ending::How::exited; // ended
  int value = 0;
  bool needed_kill = false;
  bool by_terminal = false;
  Reason reason = Reason::start_failed; // not_started
  SysError cause{};
};

// What the twin needs to know.
struct TwinTask {
  const sys::Program& program;
  const child::Supervision& supervision;
  sys::Descriptor& channel; // to the guard; its end means that the guard is gone
  LeaseClock& clock;
  int signal; // the polite one
  LeaseConnection& lease;
};

// The life of the twin: a process made by fork without exec, the parent of the command, with the guard's lease clock.
// It ends the tree at the deadline, or at once when the guard is gone, and is gone itself when the tree has ended as
// Supervision says. If the guard is gone then, it gives the lock back in its place: the next holder need not wait until
// the lock runs out.
[[noreturn]] void be_twin(const TwinTask& task);

} // namespace lockrun::remote
