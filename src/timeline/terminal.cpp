#include "timeline/terminal.hpp"

#include "text/display_width.hpp"
#include "text/quote.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

namespace lockrun::timeline {
namespace {

// So many rows are seen at one glance; a lock has a share of them.
constexpr std::size_t k_rows = 48, k_most_rows = 24, k_fewest_rows = 4;
constexpr std::size_t k_most_locks = 40;
constexpr std::size_t k_widest_label = 28, k_widest_note = 14;
constexpr std::size_t k_waiting_rows = 6, k_holding_rows = 3;
constexpr const char* k_faint = "2";

// One column of a row: both halves of it can be held, so that bars have twice the resolution of the terminal.
struct Cell {
  bool left = false, right = false, waits = false, is_shared = false;
  char letter = ' ';
  Fate fate = Fate::ran;
};

class Drawing {
public:
  Drawing(const Picture& picture, const Paper& paper);
  std::string draw();

private:
  std::size_t half_at(WallTime moment) const;
  std::string inked(const std::string& text, const std::string& colour) const;
  std::string shown(std::string text) const;
  std::string cut(const std::string& text, std::size_t columns) const;
  std::string margin(const std::string& label) const;
  std::string space(std::size_t column) const;
  std::string glyph(const Cell& cell, std::size_t column) const;
  void mark(std::vector<Cell>& cells, const Call& call) const;
  void line(const std::string& text);
  void row(const Lane& lane, const std::string& label, const std::string& note);
  void lock(const Lock& lock);
  void density(const Lock& lock);
  void histogram(
    const std::vector<double>& counts, std::size_t height, const std::string& label, const std::string& colour);
  void axis();
  void legend();

  const Picture& m_picture;
  const Paper& m_paper;
  const bool m_is_unicode;
  std::size_t m_label = 0, m_chart = 0, m_note = 0, m_budget = 0;
  std::vector<Tick> m_ticks;
  std::vector<bool> m_grid; // which columns have a tick
  std::string m_out;
};

Drawing::Drawing(const Picture& picture, const Paper& paper)
  : m_picture(picture), m_paper(paper), m_is_unicode(paper.glyphs == Glyphs::unicode)
{
  m_budget = std::clamp(k_rows / std::max<std::size_t>(picture.locks.size(), 1), k_fewest_rows, k_most_rows);
  for (const Lock& lock : picture.locks) {
    if (lock.calls.size() > m_budget) {
      m_label = std::max<std::size_t>(m_label, 12); // "9999 waiting"
      continue;
    }
    for (const Call* call : lock.calls) {
      m_label = std::max(m_label, text::display_width(command_of(*call)));
      m_note = std::max(m_note, text::display_width(note_of(*call)));
    }
  }
  m_label = std::min({m_label, k_widest_label, paper.columns / 4});
  m_note = paper.columns < 50 ? 0 : std::min(m_note, k_widest_note);
  const std::size_t around = 2 + m_label + 1 + (m_note == 0 ? 0 : m_note + 1);
  m_chart = std::max<std::size_t>(paper.columns > around ? paper.columns - around : 0, 8);
  m_ticks = ticks(picture, m_chart / 12);
  m_grid.resize(m_chart);
  for (const Tick& tick : m_ticks) { m_grid[half_at(tick.at) / 2] = true; }
}

std::size_t Drawing::half_at(WallTime moment) const
{
  const double share = static_cast<double>((moment - m_picture.begin).count()) /
                       static_cast<double>((m_picture.end - m_picture.begin).count());
  const auto last = static_cast<double>(2 * m_chart - 1);
  return static_cast<std::size_t>(std::clamp(std::floor(share * (last + 1)), 0.0, last));
}

std::string Drawing::inked(const std::string& text, const std::string& colour) const
{
  if (m_paper.colours == Colours::none || colour.empty()) { return text; }
  return fmt::format("\x1b[{}m{}\x1b[0m", colour, text);
}

// What the terminal has no letters for is left out.
std::string Drawing::shown(std::string text) const
{
  if (!m_is_unicode) {
    std::erase_if(text, [](char byte) { return (static_cast<unsigned char>(byte) & 0xc0U) == 0x80U; });
    std::replace_if(
      text.begin(), text.end(), [](char byte) { return static_cast<unsigned char>(byte) >= 0x80; }, '?');
  }
  return text;
}

std::string Drawing::cut(const std::string& text, std::size_t columns) const
{
  return text::cut_to_width(shown(text), columns);
}

std::string Drawing::margin(const std::string& label) const
{
  const std::string text = cut(label, m_label);
  return "  " + text + std::string(m_label + 1 - text::display_width(text), ' ');
}

std::string Drawing::space(std::size_t column) const
{
  if (!m_grid[column]) { return " "; }
  return inked(m_is_unicode ? "·" : ".", k_faint);
}

std::string Drawing::glyph(const Cell& cell, std::size_t column) const
{
  const std::string colour = look_of(cell.fate).terminal;
  if (cell.letter != ' ') {
    const bool is_open = cell.letter == look_of(Fate::open).letter;
    return is_open && m_is_unicode ? inked("▸", "1;" + colour) : inked(std::string(1, cell.letter), "1;7;" + colour);
  }
  if (cell.left || cell.right) {
    if (!m_is_unicode) { return inked(cell.is_shared ? "=" : "#", colour); }
    if (cell.is_shared) { return inked("▓", colour); }
    return inked(cell.left && cell.right ? "█" : cell.left ? "▌" : "▐", colour);
  }
  return cell.waits ? inked(m_is_unicode ? "░" : "-", colour) : space(column);
}

void Drawing::mark(std::vector<Cell>& cells, const Call& call) const
{
  const std::size_t begin = half_at(call.begin);
  const std::size_t acquired = call.acquired ? half_at(*call.acquired) : 2 * m_chart;
  const std::size_t end = std::max(half_at(call.end), call.acquired ? acquired : begin);
  for (std::size_t half = begin; half <= end; ++half) {
    Cell& cell = cells[half / 2];
    if (half < acquired) {
      cell.waits = true;
    } else {
      (half % 2 == 0 ? cell.left : cell.right) = true;
      cell.is_shared = call.is_shared;
    }
    cell.fate = std::max(cell.fate, call.fate);
  }
  Cell& last = cells[end / 2];
  if (last.fate == call.fate) { last.letter = look_of(call.fate).letter; }
}

void Drawing::line(const std::string& text)
{
  m_out += text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
}

void Drawing::row(const Lane& lane, const std::string& label, const std::string& note)
{
  std::vector<Cell> cells(m_chart);
  for (const Call* call : lane) { mark(cells, *call); }
  std::string text = margin(label);
  for (std::size_t column = 0; column < m_chart; ++column) { text += glyph(cells[column], column); }
  if (m_note > 0 && !note.empty()) { text += " " + inked(cut(note, m_note), look_of(lane.front()->fate).terminal); }
  line(text);
}

void Drawing::lock(const Lock& lock)
{
  const std::size_t room = std::max<std::size_t>(m_paper.columns / 2, 8);
  const std::string name = text::cut_front_to_width(shown(text::escaped(lock.name)), room);
  const std::size_t used = text::display_width(name) + 2;
  line("");
  line(inked(name, "1") + "  " +
       inked(cut(summary_of(lock), m_paper.columns > used ? m_paper.columns - used : 0), k_faint));
  if (lock.calls.size() <= m_budget) {
    for (const Call* call : lock.calls) { row({call}, command_of(*call), note_of(*call)); }
    return;
  }
  // A free column between two bars, if that is possible.
  const microseconds column = (m_picture.end - m_picture.begin) / static_cast<std::int64_t>(m_chart);
  for (const microseconds gap : {2 * column, microseconds(0)}) {
    const std::vector<Lane> lanes = pack(lock.calls, gap);
    if (lanes.size() > m_budget) { continue; }
    for (const Lane& lane : lanes) { row(lane, "", ""); }
    return;
  }
  density(lock);
}

// How many are waiting and holding in each column, on average, and the worst that became of somebody.
void Drawing::density(const Lock& lock)
{
  std::vector<double> waiting(m_chart);
  std::vector<double> holding(m_chart);
  std::vector<Cell> ends(m_chart);
  const auto count = [this](std::vector<double>& counts, WallTime from, WallTime to) {
    const double width = static_cast<double>((m_picture.end - m_picture.begin).count()) / static_cast<double>(m_chart);
    const double begin = std::max(static_cast<double>((from - m_picture.begin).count()) / width, 0.0);
    const double end = static_cast<double>((to - m_picture.begin).count()) / width;
    for (auto column = static_cast<std::size_t>(begin); column < m_chart && static_cast<double>(column) < end;
         ++column) {
      const auto left = static_cast<double>(column);
      counts[column] += std::min(end, left + 1) - std::max(begin, left);
    }
  };
  for (const Call* call : lock.calls) {
    count(waiting, call->begin, call->acquired.value_or(call->end));
    if (call->acquired) { count(holding, *call->acquired, call->end); }
    Cell& cell = ends[half_at(call->end) / 2];
    cell.fate = std::max(cell.fate, call->fate);
    cell.letter = look_of(cell.fate).letter;
  }
  histogram(waiting, std::min(k_waiting_rows, m_budget), "waiting", "36");
  const bool is_one = *std::max_element(holding.begin(), holding.end()) < 1.01;
  histogram(holding, is_one ? 1 : k_holding_rows, "holding", look_of(Fate::ran).terminal);
  if (std::all_of(ends.begin(), ends.end(), [](const Cell& cell) { return cell.letter == ' '; })) { return; }
  std::string text = margin("ended");
  for (std::size_t column = 0; column < m_chart; ++column) { text += glyph(ends[column], column); }
  line(text);
}

void Drawing::histogram(
  const std::vector<double>& counts, std::size_t height, const std::string& label, const std::string& colour)
{
  static constexpr const char* k_blocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  static constexpr const char* k_marks[] = {" ", ".", ".", ":", ":", "|", "|", "#", "#"};
  const double most = *std::max_element(counts.begin(), counts.end());
  const double scale = height == 1 ? 1.0 : std::max(std::ceil(most), 1.0);
  for (std::size_t level = height; level-- > 0;) {
    std::string text = margin(level + 1 < height ? ""
                              : height == 1      ? label
                                                 : fmt::format("{} {}", std::lround(scale), label));
    std::string bar;
    for (std::size_t column = 0; column < m_chart; ++column) {
      const double fill = counts[column] / scale * static_cast<double>(height) - static_cast<double>(level);
      auto eighths = static_cast<int>(std::clamp(std::round(fill * 8), 0.0, 8.0));
      if (eighths == 0 && level == 0 && counts[column] > 0) { eighths = 1; }
      const bool is_space = eighths == 0;
      if (is_space && !bar.empty()) { text += inked(std::exchange(bar, {}), colour); }
      if (is_space) {
        text += space(column);
      } else {
        bar += m_is_unicode ? k_blocks[eighths] : k_marks[eighths];
      }
    }
    line(text + inked(bar, colour));
  }
}

void Drawing::axis()
{
  std::string labels(m_chart, ' ');
  std::size_t free = 0;
  for (const Tick& tick : m_ticks) {
    const std::size_t column = half_at(tick.at) / 2;
    // Under its tick if there is room, otherwise as far to the right as there is.
    const std::size_t at = std::min(column, m_chart - std::min(tick.text.size(), m_chart));
    if (at < free || at + tick.text.size() > m_chart) { continue; }
    labels.replace(at, tick.text.size(), tick.text);
    free = at + tick.text.size() + 1;
  }
  line(inked(margin("") + labels, k_faint));
}

void Drawing::legend()
{
  const Fates fates = fates_of(m_picture);
  std::vector<std::pair<std::string, std::string>> entries; // with colours, and without
  const auto add = [&](const Cell& cell, const char* words) {
    entries.emplace_back(glyph(cell, 0) + " " + words, std::string("x ") + words);
  };
  const bool is_on_grid = m_grid[0];
  m_grid[0] = false;
  add({.waits = true}, "waits");
  add({.left = true, .right = true}, "holds");
  if (has_shared(m_picture)) { add({.left = true, .right = true, .is_shared = true}, "holds, shared"); }
  for (const auto& [fate, count] : fates) {
    if (fate != Fate::ran) { add({.letter = look_of(fate).letter, .fate = fate}, look_of(fate).words); }
  }
  m_grid[0] = is_on_grid;
  line("");
  std::string text;
  std::size_t used = 0;
  for (const auto& [inked_text, plain] : entries) {
    if (used > 0 && used + 3 + plain.size() >= m_paper.columns) {
      line(text);
      text.clear();
      used = 0;
    }
    text += (used == 0 ? "" : "   ") + inked_text;
    used += (used == 0 ? 0 : 3) + plain.size();
  }
  line(text);
}

std::string Drawing::draw()
{
  line(cut(headline_of(m_picture), m_paper.columns));
  if (m_picture.calls == 0) { return m_out; }
  const std::size_t shown = std::min(m_picture.locks.size(), k_most_locks);
  line("");
  axis();
  for (std::size_t i = 0; i < shown; ++i) { lock(m_picture.locks[i]); }
  if (shown > 1) { axis(); }
  if (shown < m_picture.locks.size()) {
    line("");
    line(cut(fmt::format("and {} more locks: see --lock", m_picture.locks.size() - shown), m_paper.columns));
  }
  legend();
  return m_out;
}

} // namespace

std::string terminal_picture(const Picture& picture, const Paper& paper)
{
  return Drawing(picture, paper).draw();
}

} // namespace lockrun::timeline
