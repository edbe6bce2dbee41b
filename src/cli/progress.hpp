#pragma once

#include "cli/reporter.hpp"
#include "cli/signals.hpp"
#include "cli/wait_line.hpp"
#include "lock/hinted_look.hpp"
#include "lock/look_turn.hpp"
#include "options/call.hpp"
#include "sys/descriptor.hpp"

#include <lockrun/lock.hpp>
#include <lockrun/status.hpp>

#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace lockrun::cli {

// Looks at the kernel's locks while a call waits, rarely enough to cost nothing, for the line that says why nothing
// happens.
class Progress final : public WaitObserver, private WaitFactsSource {
public:
  // `signals` are blocked when the first wait begins.
  Progress(const Call& call, Reporter& reporter, const Signals& signals)
    : m_call(call), m_reporter(reporter), m_signals(signals)
  {}

  void waiting(const LockRequest& request) override;
  bool talks() const override { return m_call.reporting.verbosity != Verbosity::quiet; }
  std::chrono::nanoseconds look(std::chrono::nanoseconds waited) override;
  void stuck(const Error& reason) override;
  void end_now(const Error& reason) override;

  // Takes the line off the terminal. To be called when the wait is over, before anybody else writes.
  void end();

  // `reason` with the holders, if a call that ends because of it says something of them: as the wait saw them last, if
  // they are still there; otherwise it looks, but not for long, because many calls may end at the same time.
  Error with_holders(Error reason) const;

private:
  bool refresh() override;
  WaitFacts facts(std::chrono::nanoseconds waited) const override;
  void take_note(LockStatus seen);
  void give_turn_back();
  void forget_users(LockStatus& status) const;
  bool has_waited_for(std::string_view target) const;
  std::optional<Sight> last_look(const Error& reason) const;
  std::string name() const;
  std::string place() const;

  const Call& m_call;
  Reporter& m_reporter;
  const Signals& m_signals;
  LockRequest m_request{};
  LockRequest m_subject{}; // the same as a descriptor
  sys::Descriptor m_place; // which this is, unless the caller has one
  bool m_names_users = true;
  bool m_has_waited = false;
  std::chrono::nanoseconds m_announced{};          // when this lock's wait began, on the steady clock
  std::optional<std::chrono::nanoseconds> m_began; // the same in terms of `waited`
  std::mutex m_mutex;                              // held while m_seen changes, and while stuck() reads it
  LockStatus m_seen{};
  bool m_has_seen = false;
  std::optional<LookTurn> m_turn;
  std::optional<HolderHint> m_hint;       // as long as the turn
  std::chrono::nanoseconds m_next_look{}; // on the steady clock; until then m_turn is kept
  WaitLine m_line{m_call.reporting};
};

} // namespace lockrun::cli
