#include "cli/wait_line.hpp"

#include "cli/holder_words.hpp"
#include "sys/file.hpp"
#include "sys/terminal.hpp"
#include "text/display_width.hpp"
#include "text/duration.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

namespace lockrun::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

// Most waits are over by then, and have cost nothing.
constexpr milliseconds k_silence{200};
constexpr milliseconds k_first_line{1000};
constexpr seconds k_tick{1};
// Others have their turn to look: how often to ask again before a line is said without a holder, and how soon; each
// time twice as late.
constexpr int k_patience_for_turn = 3;
constexpr milliseconds k_next_try{400};
constexpr std::chrono::hours k_never{24};
// What a window should have at least; in a smaller one the line is cut.
constexpr std::size_t k_usual_columns = 80;
constexpr std::size_t k_shortest_command = 8;
// Terminals wrap in the last column; and show the "^C" of who has waited enough, which must not wrap either.
constexpr std::size_t k_margin = 3;

bool may_draw()
{
  if (!sys::owns_terminal()) { return false; }
  const char* const terminal = std::getenv("TERM");
  return terminal != nullptr && *terminal != '\0' && std::string_view(terminal) != "dumb";
}

// "12s", "3m12s"; rounded up, so that it does not say that nothing is left.
std::string rest_text(nanoseconds rest)
{
  return text::duration_text(std::chrono::ceil<seconds>(std::max(rest, nanoseconds(0))));
}

// The most telling line that fits: everything; without users and with as much of the command as there is room for; and
// then less and less.
std::string live_line(const WaitFacts& facts, std::size_t columns)
{
  const std::string place = facts.place.empty() ? "" : ", " + facts.place;
  std::string rest = place;
  if (facts.left) { rest += fmt::format(", {} left", rest_text(*facts.left)); }
  const std::string begin = "lockrun: waiting for ";
  const std::string& lock = facts.lock;
  if (facts.held.empty()) { return text::cut_to_width(begin + lock + rest, columns); }
  const std::string holder = facts.who + facts.more;
  std::string command;
  const std::size_t others =
    text::display_width(fmt::format("{}{}, {} by {} (){}{}", begin, lock, facts.verb, holder, facts.time, rest));
  if (!facts.command.empty() && others + k_shortest_command <= columns) {
    command = " (" + command_words(facts.command, columns - others) + ")";
  }
  const std::string candidates[] = {
    fmt::format("{}{}, {}{}", begin, lock, facts.held, rest),
    fmt::format("{}{}, {} by {}{}{}{}{}", begin, lock, facts.verb, facts.who, command, facts.more, facts.time, rest),
    fmt::format("{}{}, {} by {}{}", begin, lock, facts.verb, holder, rest),
    fmt::format("{}{}{}{}", begin, holder, facts.time, rest),
    fmt::format("{}{}{}", begin, holder, place),
    begin + holder,
    begin + facts.who,
  };
  for (const std::string& text : candidates) {
    if (text::display_width(text) <= columns) { return text; }
  }
  return text::cut_to_width(std::end(candidates)[-1], columns);
}

} // namespace

void WaitLine::begin()
{
  end();
  m_next_line = {};
  m_next_drawing = {};
  m_missed_turns = 0;
}

nanoseconds WaitLine::look(nanoseconds waited, WaitFactsSource& source)
{
  if (m_reporting.verbosity == Verbosity::quiet) { return k_never; }
  const bool draws = may_draw();
  if (!draws) { m_is_drawn = false; } // in the background now, and the shell has gone on below
  const nanoseconds silence = draws ? k_silence : k_first_line;
  if (waited < silence) { return silence - waited; }
  return draws ? draw(waited, source) : say(waited, source);
}

nanoseconds WaitLine::draw(nanoseconds waited, WaitFactsSource& source)
{
  if (waited < m_next_drawing) { return m_next_drawing - waited; }
  m_next_drawing = waited + k_tick;
  (void)source.refresh();
  const std::size_t columns = sys::terminal_columns().value_or(k_usual_columns);
  const std::size_t room = columns - std::min(columns, k_margin);
  (void)sys::offer_standard_error("\r" + live_line(source.facts(waited), room) + "\x1b[K");
  m_is_drawn = true;
  return k_tick;
}

nanoseconds WaitLine::say(nanoseconds waited, WaitFactsSource& source)
{
  if (waited < m_next_line) { return m_next_line - waited; }
  if (!source.refresh() && m_missed_turns < k_patience_for_turn) { return k_next_try * (1 << m_missed_turns++); }
  const nanoseconds interval = m_reporting.progress.value_or(k_never);
  const bool is_first = waited < interval;
  const WaitFacts facts = source.facts(waited);
  (void)sys::offer_standard_error(fmt::format("lockrun: {} for {}{}{}{}{}{}\n", is_first ? "waiting" : "still waiting",
    facts.lock, is_first ? "" : " after " + text::duration_text(std::chrono::floor<seconds>(waited)),
    facts.held.empty() ? "" : ", ", facts.held, facts.place.empty() ? "" : ", ", facts.place));
  m_missed_turns = 0;
  m_next_line = m_reporting.progress ? (waited / interval + 1) * interval : waited + k_never;
  return m_next_line - waited;
}

void WaitLine::end()
{
  if (m_is_drawn && may_draw()) { (void)sys::offer_standard_error("\r\x1b[K"); }
  m_is_drawn = false;
}

} // namespace lockrun::cli
