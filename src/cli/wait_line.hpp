#pragma once

#include "options/call.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

namespace lockrun::cli {

// What is known of a wait at the moment.
struct WaitFacts {
  std::string lock;          // its name
  std::string held;          // "held by PID 12 (make, user root) for 3s"; empty: nothing is known yet
  std::string who;           // the first holder, short: "PID 12"
  const char* verb = "held"; // or "taken", if it is not certain that it is the holder
  std::string command{};     // its command line, words separated by NUL
  std::string more{};        // " and 2 more"
  std::string time{};        // " for 3s"
  std::string place{};       // "place 1 of 2"; empty: not known
  std::optional<std::chrono::nanoseconds> left{}; // of the time limit
};

// Where the facts come from.
class WaitFactsSource {
public:
  virtual ~WaitFactsSource() = default;
  // Brings them up to date; false if that was not possible now, but may soon be.
  virtual bool refresh() = 0;
  virtual WaitFacts facts(std::chrono::nanoseconds waited) const = 0;
};

// Says on standard error why nothing happens while a call waits: on a terminal one line that is drawn anew each second,
// elsewhere one line after a second and, with --progress, one each interval.
class WaitLine {
public:
  explicit WaitLine(const Reporting& reporting) : m_reporting(reporting) {}

  // A wait begins.
  void begin();
  // `waited`: since then. Returns how long until it wants to be called again.
  std::chrono::nanoseconds look(std::chrono::nanoseconds waited, WaitFactsSource& source);
  // Takes the line off the terminal. To be called when the wait is over, before anybody else writes.
  void end();

private:
  std::chrono::nanoseconds draw(std::chrono::nanoseconds waited, WaitFactsSource& source);
  std::chrono::nanoseconds say(std::chrono::nanoseconds waited, WaitFactsSource& source);

  const Reporting& m_reporting;
  std::chrono::nanoseconds m_next_line{}; // in terms of `waited`, as the next
  std::chrono::nanoseconds m_next_drawing{};
  int m_missed_turns = 0;
  std::atomic<bool> m_is_drawn{false};
};

} // namespace lockrun::cli
