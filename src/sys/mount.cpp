#include "sys/mount.hpp"

#include "sys/proc.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <string_view>
#include <vector>

#include <sys/sysmacros.h>
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

// "98:0".
dev_t device_of(std::string_view text)
{
  unsigned numbers[2] = {};
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, numbers[0]);
  if (first.ptr != end) { (void)std::from_chars(first.ptr + 1, end, numbers[1]); }
  return makedev(numbers[0], numbers[1]);
}

// "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue": before the dash there are optional
// fields.
Result<Mount> find_mount(int number)
{
  const auto table = read_file("/proc/self/mountinfo");
  if (!table) { return tl::unexpected(table.error()); }
  const std::string wanted = std::to_string(number) + " ";
  std::string_view text = *table;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.starts_with(wanted)) { continue; } // a machine that runs containers has thousands
    const auto words = words_of(line);
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 6 || words.end() - dash < 4) { continue; }
    return Mount{std::string(dash[1]), unescaped(words[4]), std::string(words[5]) + "," + std::string(dash[3]),
      device_of(words[2])};
  }
  return tl::unexpected(SysError{"read", ENODEV});
}

} // namespace

Result<Mount> mount_of(const Descriptor& fd)
{
  const auto info = descriptor_info(::getpid(), fd.get());
  if (!info) { return tl::unexpected(info.error()); }
  return find_mount(info->mount);
}

FileIdentity identity_in_locks(int fd, const FileIdentity& status)
{
  const auto info = descriptor_info(::getpid(), fd);
  if (!info) { return status; }
  const auto mount = find_mount(info->mount);
  return {mount ? mount->device : status.device, info->inode != 0 ? info->inode : status.inode};
}

} // namespace lockrun::sys
