#include "timeline/svg.hpp"

#include "text/display_width.hpp"
#include "text/quote.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace lockrun::timeline {
namespace {

constexpr double k_margin = 20, k_label = 210, k_note = 110;
constexpr double k_row = 22, k_least_row = 3, k_lanes_height = 720;
constexpr std::size_t k_most_named = 40; // calls of a lock that get a row with their name
constexpr double k_letter = 6.6;         // the width of one, about
constexpr double k_least_bar = 1.5, k_arrow = 5;

constexpr const char* k_style = R"(
text{font:12px ui-sans-serif,system-ui,"DejaVu Sans",sans-serif;fill:#24292f}
.name{font-weight:600;font-size:14px}.head{font-weight:600;font-size:16px}.faint{fill:#6e7781;font-size:11px}
.inside{fill:#fff;font-size:11px}.page{fill:#fff}.panel{fill:#f5f7f9}.grid{stroke:#dde2e7;stroke-width:1}
.wait{fill-opacity:.28}.shared{fill-opacity:.65}.call:hover rect{stroke:#24292f;stroke-width:1}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.faint{fill:#8d96a0}.inside{fill:#fff}.page{fill:#0d1117}
.panel{fill:#161b22}.grid{stroke:#2b323b}.wait{fill-opacity:.4}.call:hover rect{stroke:#e6edf3}}
)";

// For the text between tags; harmless for a terminal already, so that no control character is left.
std::string text_of(std::string_view text)
{
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    switch (text[i]) {
    case '&':
      out += "&amp;";
      break;
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    default:
      // U+FFFE and U+FFFF are no characters of XML (XML 1.0, production 2).
      if (text.substr(i, 3) == "\xef\xbf\xbe" || text.substr(i, 3) == "\xef\xbf\xbf") {
        out += "?";
        i += 2;
      } else {
        out += text[i];
      }
    }
  }
  return out;
}

// A length, to a hundredth of a pixel.
std::string as_text(double value)
{
  const long hundredths = std::lround(value * 100);
  const long part = std::abs(hundredths);
  std::string text = (hundredths < 0 ? "-" : "") + std::to_string(part / 100);
  if (part % 100 != 0) { text += fmt::format(".{:02}", part % 100); }
  return text;
}

template <class T>
const T& as_text(const T& value)
{
  return value;
}

class Drawing {
public:
  Drawing(const Picture& picture, std::size_t width);
  std::string draw();

private:
  template <class... T>
  void put(fmt::format_string<decltype(as_text(std::declval<const T&>()))...> format, const T&... values)
  {
    fmt::format_to(std::back_inserter(m_out), format, as_text(values)...);
  }
  double x_at(WallTime moment) const;
  void text(double x, double y, const char* style, std::string_view words, double room);
  void axis();
  void grid(double height);
  void lock(const Lock& lock);
  void bar(const Call& call, double height);
  void legend();

  const Picture& m_picture;
  double m_width, m_left, m_right;
  double m_y = k_margin;
  std::vector<Tick> m_ticks;
  std::string m_out;
};

Drawing::Drawing(const Picture& picture, std::size_t width)
  : m_picture(picture), m_width(static_cast<double>(std::max<std::size_t>(width, 480))), m_left(k_margin + 8),
    m_right(m_width - k_margin - 8)
{
  const bool has_names = std::any_of(
    picture.locks.begin(), picture.locks.end(), [](const Lock& lock) { return lock.calls.size() <= k_most_named; });
  if (has_names) {
    m_left += k_label;
    m_right -= k_note;
  }
  m_ticks = ticks(picture, static_cast<std::size_t>((m_right - m_left) / 90));
}

double Drawing::x_at(WallTime moment) const
{
  const double share = static_cast<double>((moment - m_picture.begin).count()) /
                       static_cast<double>((m_picture.end - m_picture.begin).count());
  return m_left + std::clamp(share, 0.0, 1.0) * (m_right - m_left);
}

void Drawing::text(double x, double y, const char* style, std::string_view words, double room)
{
  const std::string fits = text::cut_to_width(words, static_cast<std::size_t>(std::max(room / k_letter, 0.0)));
  put("<text x=\"{}\" y=\"{}\" class=\"{}\">{}</text>\n", x, y, style, text_of(fits));
}

void Drawing::axis()
{
  m_y += 14;
  for (const Tick& tick : m_ticks) {
    const double x = std::min(x_at(tick.at), m_width - k_margin - k_letter * static_cast<double>(tick.text.size()));
    text(x, m_y, "faint", tick.text, m_width);
  }
  m_y += 8;
}

void Drawing::grid(double height)
{
  std::string path;
  for (const Tick& tick : m_ticks) {
    path += fmt::format("M{} {}v{}", as_text(x_at(tick.at)), as_text(m_y), as_text(height));
  }
  put("<path class=\"grid\" d=\"{}\"/>\n", path);
}

// At m_y, with its tooltip. Waiting is lighter; what never got the lock has a cap at its end in full colour.
void Drawing::bar(const Call& call, double height)
{
  const double begin = x_at(call.begin);
  const double acquired = call.acquired ? x_at(*call.acquired) : x_at(call.end);
  const double end = std::max(x_at(call.end), acquired + (call.acquired ? k_least_bar : 0));
  const double gap = height > 8 ? 4 : 1; // between rows
  const double y = m_y + gap / 2;
  const double thick = height - gap;
  const double round = std::min(thick / 4, 3.0);
  const char* const name = look_of(call.fate).name;
  put("<g class=\"call {}\"><title>{}</title>", name, text_of(story_of(call)));
  if (acquired > begin) {
    put("<rect class=\"wait\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>", begin, y, acquired - begin, thick);
  }
  if (call.acquired) {
    put("<rect class=\"hold{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{}\"/>",
      call.is_shared ? " shared" : "", acquired, y, end - acquired, thick, std::min(round, (end - acquired) / 2));
  } else if (call.fate != Fate::open) {
    put("<rect x=\"{}\" y=\"{}\" width=\"3\" height=\"{}\" rx=\"1\"/>", end, y, thick);
  }
  if (call.fate == Fate::open) { // it goes on, who knows for how long
    put("<path d=\"M{} {}l{} {}l-{} {}z\"/>", end, y, k_arrow, thick / 2, k_arrow, thick / 2);
  }
  put("</g>\n");
}

void Drawing::lock(const Lock& lock)
{
  m_y += 26;
  const std::string name = text::escaped(lock.name);
  text(k_margin, m_y, "name", name, m_width / 2);
  const std::string summary = summary_of(lock);
  const double name_ends = k_margin + 1.4 * k_letter * static_cast<double>(text::display_width(name)) + 16;
  text(std::min(name_ends, m_width / 2 + 2 * k_margin), m_y, "faint", summary,
    m_width - std::min(name_ends, m_width / 2) - k_margin);
  m_y += 8;

  const bool is_named = lock.calls.size() <= k_most_named;
  std::vector<Lane> lanes;
  if (is_named) {
    for (const Call* call : lock.calls) { lanes.push_back({call}); }
  } else {
    lanes =
      pack(lock.calls, microseconds(static_cast<std::int64_t>(
                         3 / (m_right - m_left) * static_cast<double>((m_picture.end - m_picture.begin).count()))));
  }
  const double row =
    is_named ? k_row : std::clamp(k_lanes_height / static_cast<double>(lanes.size()), k_least_row, k_row);
  const double height = row * static_cast<double>(lanes.size()) + 8;
  put("<rect class=\"panel\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n", k_margin, m_y,
    m_width - 2 * k_margin, height);
  grid(height);
  m_y += 4;
  for (const Lane& lane : lanes) {
    for (const Call* call : lane) { bar(*call, row); }
    const Call& first = *lane.front();
    if (is_named) {
      text(k_margin + 8, m_y + 15, "", command_of(first), k_label - 16);
      text(m_right + 12, m_y + 15, "faint", note_of(first), k_note - 8);
    }
    m_y += row;
  }
  m_y += 4;
}

void Drawing::legend()
{
  double x = k_margin;
  const auto add = [&](const char* style, const char* words) {
    const double width = 24 + k_letter * static_cast<double>(std::string_view(words).size()) + 14;
    if (x + width > m_width - k_margin) {
      x = k_margin;
      m_y += 20;
    }
    put("<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"18\" height=\"12\" rx=\"3\"/>", style, x, m_y - 10);
    text(x + 24, m_y, "faint", words, m_width);
    x += width;
  };
  m_y += 22;
  add("ran wait", "waits");
  add("ran", "holds");
  if (has_shared(m_picture)) { add("ran shared", "holds, shared"); }
  for (const auto& [fate, count] : fates_of(m_picture)) {
    if (fate != Fate::ran) { add(look_of(fate).name, look_of(fate).words); }
  }
  m_y += 14;
}

std::string Drawing::draw()
{
  m_y += 14;
  text(k_margin, m_y, "head", headline_of(m_picture), m_width);
  if (m_picture.calls > 0) {
    legend();
    axis();
    for (const Lock& each : m_picture.locks) { lock(each); }
    axis();
  }
  const double height = m_y + k_margin;
  std::string colours = fmt::format(".open-stop{{stop-color:{}}}", look_of(Fate::open).light);
  for (int fate = 0; fate < k_fates; ++fate) {
    const Look& look = look_of(static_cast<Fate>(fate));
    colours += fmt::format(".{}{{fill:{}}}", look.name, look.light);
  }
  colours += ".open .hold,.open .wait{fill:url(#fade)}";
  return fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
                     "viewBox=\"0 0 {0} {1}\">\n<title>lockrun: {2}</title>\n<style>{3}{4}</style>\n"
                     "<linearGradient id=\"fade\"><stop class=\"open-stop\"/><stop class=\"open-stop\" offset=\"1\" "
                     "stop-opacity=\".3\"/></linearGradient>\n"
                     "<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n",
           as_text(m_width), as_text(height), text_of(headline_of(m_picture)), k_style, colours) +
         m_out + "</svg>\n";
}

} // namespace

std::string svg_picture(const Picture& picture, std::size_t width)
{
  return Drawing(picture, width).draw();
}

} // namespace lockrun::timeline
