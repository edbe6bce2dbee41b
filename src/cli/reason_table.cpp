#include "cli/reason_table.hpp"

#include "text/exit_status.hpp"

#include <cstddef>
#include <iterator>

namespace lockrun::cli {
namespace {

using enum ReasonRow::Special;
using enum Severity;
using Outcome = CallOutcome;

// In the order of Reason.
constexpr ReasonRow k_rows[] = {
  {Reason::busy, note, k_conflict, Outcome::busy},
  {Reason::too_many_waiters, note, k_conflict, Outcome::busy},
  {Reason::timed_out, warning, k_conflict, Outcome::timed_out},
  {Reason::deadlock, failure, k_busy, Outcome::deadlock},
  {Reason::nested, failure, k_busy, Outcome::deadlock},
  {Reason::interrupted, note, k_signal, Outcome::interrupted},
  {Reason::open_failed, failure, k_errno, Outcome::failed},
  {Reason::missing, failure, k_no_input, Outcome::failed},
  {Reason::wrong_type, failure, k_no_permission, Outcome::failed},
  {Reason::harmful_device, failure, k_no_permission, Outcome::failed},
  {Reason::unsafe_place, failure, k_no_permission, Outcome::failed},
  {Reason::lock_failed, failure, k_errno, Outcome::failed},
  {Reason::not_removed, failure, k_errno, Outcome::failed},
  {Reason::bad_descriptor, failure, k_bad_data, Outcome::failed},
  {Reason::called_off, note, k_signal, Outcome::interrupted},
  {Reason::start_failed, failure, k_errno, Outcome::failed}, // of the command or, before that, of a thread
  {Reason::not_found, failure, k_not_found, Outcome::exec_failed},
  {Reason::not_executable, failure, k_cannot_execute, Outcome::exec_failed},
  {Reason::unknown_ending, failure, k_os_error, Outcome::failed},
  {Reason::lost, failure, k_lost, Outcome::lost},
  {Reason::engine_missing, failure, k_unavailable, Outcome::failed},
  {Reason::engine_not_started, failure, k_errno, Outcome::failed},
  {Reason::engine_unable, failure, k_usage, Outcome::failed},
  {Reason::engine_refused, failure, k_engines, Outcome::failed},
  {Reason::engine_silent, failure, k_io_error, Outcome::failed},
  {Reason::engine_ended, failure, k_software, Outcome::failed},
  {Reason::engine_nonsense, failure, k_software, Outcome::failed},
};

constexpr bool is_in_order()
{
  for (std::size_t i = 0; i < std::size(k_rows); ++i) {
    if (k_rows[i].reason != static_cast<Reason>(i)) { return false; }
  }
  return std::size(k_rows) == static_cast<std::size_t>(Reason::engine_nonsense) + 1;
}
static_assert(is_in_order(), "a row for each reason");

} // namespace

const ReasonRow& row_of(Reason reason)
{
  return k_rows[static_cast<std::size_t>(reason)];
}

} // namespace lockrun::cli
