#include "sys/passwd.hpp"

#include "sys/proc.hpp"

#include <algorithm>
#include <string_view>

namespace lockrun::sys {
namespace {

// The field at the beginning of `line`, taken off with its colon.
std::string_view take_field(std::string_view& line)
{
  const std::string_view field = line.substr(0, line.find(':'));
  line.remove_prefix(std::min(field.size() + 1, line.size()));
  return field;
}

} // namespace

// "root:x:0:0:root:/root:/bin/bash" (passwd(5)).
std::optional<std::string> user_name(uid_t user, const char* file)
{
  const auto content = read_file(file);
  if (!content) { return std::nullopt; }
  const std::string number = std::to_string(user);
  std::string_view text = *content;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const std::string_view name = take_field(line);
    take_field(line); // the password, or its place
    if (take_field(line) == number && !name.empty()) { return std::string(name); }
  }
  return std::nullopt;
}

} // namespace lockrun::sys
