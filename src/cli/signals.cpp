#include "cli/signals.hpp"

#include "sys/process.hpp"

namespace lockrun::cli {

int end_by_signal(int signal, int status, const sys::SignalSet& inherited)
{
  (void)sys::kill(sys::process_id(), signal);
  (void)sys::set_signal_mask(inherited);
  return status; // it has no default action
}

} // namespace lockrun::cli
