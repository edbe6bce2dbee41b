#pragma once

#include "cli/events.hpp"
#include "cli/options.hpp"
#include "lock/look_turn.hpp"
#include "sys/descriptor.hpp"

#include <lockrun/lock.hpp>
#include <lockrun/status.hpp>

#include <chrono>
#include <optional>
#include <string>

namespace lockrun::cli {

// Says why nothing happens while a call waits: on a terminal one line that is drawn anew each second, elsewhere one
// line after a second and, with --progress, one each interval. Looks at the kernel's locks rarely enough to cost
// nothing.
class Progress final : public WaitObserver {
public:
  Progress(const Options& options, EventLog& events) : m_options(options), m_events(events) {}

  void waiting(const LockRequest& request) override;
  std::chrono::nanoseconds look(std::chrono::nanoseconds waited) override;
  void stuck(const Error& reason) override;

  // Takes the line off the terminal. To be called when the wait is over, before anybody else writes.
  void end();

private:
  std::chrono::nanoseconds draw(std::chrono::nanoseconds waited);
  std::chrono::nanoseconds say(std::chrono::nanoseconds waited);
  bool refresh();
  std::string name() const;
  std::string place() const;
  std::string line(std::size_t columns, std::chrono::nanoseconds waited) const;

  const Options& m_options;
  EventLog& m_events;
  LockRequest m_request{};
  LockRequest m_subject{}; // the same as a descriptor
  sys::Descriptor m_place; // which this is, unless the caller has one
  bool m_names_users = true;
  std::optional<std::chrono::nanoseconds> m_began; // of this lock, in terms of `waited`
  LockStatus m_seen{};
  bool m_has_seen = false;
  std::optional<LookTurn> m_turn;
  std::chrono::nanoseconds m_next_look{}; // on the steady clock; until then m_turn is kept
  std::chrono::nanoseconds m_next_line{}; // in terms of `waited`
  int m_missed_turns = 0;
  bool m_is_drawn = false;
};

} // namespace lockrun::cli
