#pragma once

namespace lockrun::text {

// Of ASCII, whatever the locale.
constexpr bool is_digit(char c)
{
  return c >= '0' && c <= '9';
}

constexpr bool is_letter_or_digit(char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c);
}

} // namespace lockrun::text
