#include "cli/quote.hpp"

#include <cstddef>
#include <cstdint>

namespace lockrun::cli {
namespace {

// One character of UTF-8: its number, and how many bytes it takes; no bytes if it is not valid (Unicode 15, table 3-7).
struct Character {
  std::uint32_t code;
  std::size_t size;
};

Character first_character(std::string_view text)
{
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) { return {lead, 1}; }
  const std::size_t size = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (size == 0 || size > text.size()) { return {0, 0}; }
  std::uint32_t code = lead & (0x7fU >> size);
  for (std::size_t at = 1; at < size; ++at) {
    if ((byte(at) & 0xc0) != 0x80) { return {0, 0}; }
    code = code << 6 | (byte(at) & 0x3fU);
  }
  const bool is_overlong = (size == 3 && code < 0x800) || (size == 4 && code < 0x10000);
  const bool is_surrogate = code >= 0xd800 && code <= 0xdfff;
  return is_overlong || is_surrogate || code > 0x10ffff ? Character{0, 0} : Character{code, size};
}

// Control characters, and what is invisible or changes the direction or the line of the text around it.
bool is_harmless(std::uint32_t code)
{
  struct Span {
    std::uint32_t first, last;
  };
  constexpr Span k_harmful[] = {
    {0x00, 0x1f},
    {0x7f, 0x9f},
    {0x61c, 0x61c},
    {0x180e, 0x180e},
    {0x200b, 0x200f},
    {0x2028, 0x202e},
    {0x2060, 0x206f},
    {0xfeff, 0xfeff},
    {0xfff9, 0xfffb},
    {0xe0000, 0xe007f},
  };
  for (const Span& span : k_harmful) {
    if (code >= span.first && code <= span.last) { return false; }
  }
  return true;
}

void append_escaped(std::string& out, unsigned char byte)
{
  constexpr char k_digits[] = "0123456789abcdef";
  switch (byte) {
  case '\n':
    out += "\\n";
    return;
  case '\r':
    out += "\\r";
    return;
  case '\t':
    out += "\\t";
    return;
  default:
    out += "\\x";
    out += k_digits[byte >> 4];
    out += k_digits[byte & 0xf];
  }
}

enum class Quotes { escaped, plain };

std::string harmless(std::string_view text, Quotes quotes)
{
  std::string out;
  while (!text.empty()) {
    const Character character = first_character(text);
    const std::size_t size = character.size == 0 ? 1 : character.size;
    if (character.size == 0 || !is_harmless(character.code)) {
      for (const char byte : text.substr(0, size)) { append_escaped(out, static_cast<unsigned char>(byte)); }
    } else {
      const bool is_special = character.code == '\\' || (quotes == Quotes::escaped && character.code == '\'');
      if (is_special) { out += '\\'; }
      out += text.substr(0, size);
    }
    text.remove_prefix(size);
  }
  return out;
}

} // namespace

std::string quoted(std::string_view text)
{
  return "'" + harmless(text, Quotes::escaped) + "'";
}

std::string escaped(std::string_view text)
{
  return harmless(text, Quotes::plain);
}

} // namespace lockrun::cli
