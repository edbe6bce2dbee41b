#include "text/quote.hpp"

#include "text/utf8.hpp"

#include <cstddef>
#include <cstdint>

namespace lockrun::text {
namespace {

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

} // namespace lockrun::text
