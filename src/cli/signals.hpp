#pragma once

#include "sys/signal.hpp"

namespace lockrun::cli {

// The signals that end a call before the command runs; while it runs they are for the command. They keep their default
// action until they are blocked: when the wait begins, or as soon as the lock is ours.
struct Signals {
  explicit Signals(const sys::SignalSet& mask) noexcept : inherited(mask)
  {
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) {
      if (!mask.contains(signal)) { ending.add(signal); }
    }
  }

  void block() const { (void)sys::block_signals(ending); }

  sys::SignalSet inherited; // the mask that we were started with
  sys::SignalSet ending;    // without those that were blocked in it
};

// Ends us in the way in which `signal`, which we have blocked, would have ended us, so that our parent sees what it
// would see of any program. Returns `status` if the signal has no such action.
int end_by_signal(int signal, int status, const sys::SignalSet& inherited);

} // namespace lockrun::cli
