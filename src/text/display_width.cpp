#include "text/display_width.hpp"

#include "text/utf8.hpp"

#include <algorithm>
#include <cstdint>

namespace lockrun::text {
namespace {

constexpr std::string_view k_dots = "...";

struct Span {
  std::uint32_t first, last;
};

// Unicode 15, general categories Mn and Me in the scripts that command lines are made of.
constexpr Span k_combining[] = {
  {0x300, 0x36f},
  {0x483, 0x489},
  {0x591, 0x5bd},
  {0x610, 0x61a},
  {0x64b, 0x65f},
  {0x900, 0x902},
  {0xe34, 0xe3a},
  {0xe47, 0xe4e},
  {0x1ab0, 0x1aff},
  {0x1dc0, 0x1dff},
  {0x20d0, 0x20f0},
  {0x3099, 0x309a},
  {0xfe00, 0xfe0f},
  {0xfe20, 0xfe2f},
};

// Unicode 15, EastAsianWidth.txt, W and F; blocks taken whole.
constexpr Span k_wide[] = {
  {0x1100, 0x115f},
  {0x2e80, 0x303e},
  {0x3041, 0x33ff},
  {0x3400, 0x4dbf},
  {0x4e00, 0x9fff},
  {0xa000, 0xa4cf},
  {0xa960, 0xa97f},
  {0xac00, 0xd7a3},
  {0xf900, 0xfaff},
  {0xfe30, 0xfe6f},
  {0xff00, 0xff60},
  {0xffe0, 0xffe6},
  {0x1f300, 0x1f64f},
  {0x1f680, 0x1f6ff},
  {0x1f900, 0x1f9ff},
  {0x1fa70, 0x1faff},
  {0x20000, 0x3fffd},
};

bool is_in(const auto& spans, std::uint32_t code)
{
  return std::any_of(
    std::begin(spans), std::end(spans), [code](const Span& span) { return code >= span.first && code <= span.last; });
}

std::size_t width_of(std::uint32_t code)
{
  if (is_in(k_combining, code)) { return 0; }
  return is_in(k_wide, code) ? 2 : 1;
}

// How many bytes of `text` fit into `columns`.
std::size_t bytes_within(std::string_view text, std::size_t columns)
{
  std::size_t bytes = 0;
  while (bytes < text.size()) {
    const Character character = first_character(text.substr(bytes));
    const std::size_t width = width_of(character.code);
    if (width > columns) { break; }
    columns -= width;
    bytes += std::max<std::size_t>(character.size, 1);
  }
  return bytes;
}

} // namespace

std::size_t display_width(std::string_view text)
{
  std::size_t columns = 0;
  while (!text.empty()) {
    const Character character = first_character(text);
    columns += width_of(character.code);
    text.remove_prefix(std::max<std::size_t>(character.size, 1));
  }
  return columns;
}

std::string cut_to_width(std::string_view text, std::size_t columns)
{
  if (bytes_within(text, columns) == text.size()) { return std::string(text); }
  if (columns < k_dots.size()) { return std::string(k_dots.substr(0, columns)); }
  return std::string(text.substr(0, bytes_within(text, columns - k_dots.size()))) + std::string(k_dots);
}

std::string cut_front_to_width(std::string_view text, std::size_t columns)
{
  std::size_t width = display_width(text);
  if (width <= columns) { return std::string(text); }
  if (columns < k_dots.size()) { return std::string(k_dots.substr(0, columns)); }
  while (width > columns - k_dots.size() || (!text.empty() && width_of(first_character(text).code) == 0)) {
    const Character character = first_character(text);
    width -= width_of(character.code);
    text.remove_prefix(std::max<std::size_t>(character.size, 1));
  }
  return std::string(k_dots).append(text);
}

} // namespace lockrun::text
