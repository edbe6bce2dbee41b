#include "engines/net/words.hpp"

#include <algorithm>

namespace lockrun::engines::net {
namespace {

constexpr std::size_t k_longest = 120;

} // namespace

std::string first_line(std::string_view text)
{
  constexpr std::string_view k_blanks = " \t\r\n";
  text.remove_prefix(std::min(text.find_first_not_of(k_blanks), text.size()));
  text = text.substr(0, text.find_first_of("\r\n"));
  const bool is_cut = text.size() > k_longest;
  std::string line(text.substr(0, k_longest));
  for (char& c : line) {
    if (c < ' ' || c > '~') { c = '?'; } // a terminal may read it
  }
  line.erase(line.find_last_not_of(k_blanks) + 1);
  return is_cut ? line + "..." : line;
}

} // namespace lockrun::engines::net
