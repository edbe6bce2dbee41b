#include "sys/mount.hpp"

#include "sys/proc.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <string_view>
#include <vector>

#include <unistd.h>

namespace lockrun::sys {
namespace {

std::vector<std::string_view> words_of(std::string_view line)
{
  std::vector<std::string_view> words;
  while (!line.empty()) {
    const std::string_view word = line.substr(0, line.find(' '));
    words.push_back(word);
    line.remove_prefix(std::min(word.size() + 1, line.size()));
  }
  return words;
}

// Blanks and backslashes are written as "\040" there.
std::string unescaped(std::string_view text)
{
  std::string result;
  while (!text.empty()) {
    unsigned char byte = 0;
    const bool is_escape = text.size() >= 4 && text.front() == '\\' &&
                           std::from_chars(text.data() + 1, text.data() + 4, byte, 8).ptr == text.data() + 4;
    result += is_escape ? static_cast<char>(byte) : text.front();
    text.remove_prefix(is_escape ? 4 : 1);
  }
  return result;
}

} // namespace

// "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue": before the dash there are optional
// fields.
Result<Mount> mount_of(const Descriptor& fd)
{
  const auto info = descriptor_info(::getpid(), fd.get());
  if (!info) { return tl::unexpected(info.error()); }
  const auto table = read_file("/proc/self/mountinfo");
  if (!table) { return tl::unexpected(table.error()); }
  const std::string wanted = std::to_string(info->mount);
  std::string_view text = *table;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const auto words = words_of(line);
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 6 || words.front() != wanted || words.end() - dash < 4) { continue; }
    return Mount{std::string(dash[1]), unescaped(words[4]), std::string(words[5]) + "," + std::string(dash[3])};
  }
  return tl::unexpected(SysError{"read", ENODEV});
}

} // namespace lockrun::sys
