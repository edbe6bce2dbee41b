#include "engines/password.hpp"

#include "sys/file.hpp"
#include "sys/process.hpp"
#include "text/words.hpp"

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::engines {
namespace {

using Unusable = tl::unexpected<Failure>;

Unusable unreadable(const std::string& path, int code)
{
  return Unusable(usage(fmt::format("cannot read a password from '{}': {}", path, text::errno_words(code))));
}

Unusable unfit(const std::string& path, const char* why, std::string hint = {})
{
  return Unusable(usage(fmt::format("cannot use the password file '{}': {}", path, why), std::move(hint)));
}

} // namespace

Result<std::optional<std::string>, Failure> given_password(const Url& url, const char* variable)
{
  if (url.password) { return url.password; }
  if (const auto file = url.parameter("password-file")) { return read_password_file(*file); }
  const char* const value = sys::environment(variable);
  if (value == nullptr || *value == '\0') { return std::nullopt; }
  return value;
}

Result<std::string, Failure> read_password_file(const std::string& path)
{
  const auto file = sys::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  if (!file) { return unreadable(path, file.error().code); }
  // The file that was opened is the one that is looked at: its name may lead elsewhere by now.
  const auto status = sys::fstat(*file);
  if (!status) { return unreadable(path, status.error().code); }
  if (status->type != sys::FileType::regular) { return unfit(path, "it is not a regular file"); }
  if (status->owner != 0 && status->owner != sys::effective_user()) {
    return unfit(path, "it belongs to another user", "it must belong to the user who runs lockrun, or to root");
  }
  if ((status->permissions & (S_IRWXG | S_IRWXO)) != 0) {
    return unfit(path, "its group or other users have access to it", "chmod 600 makes it private");
  }
  constexpr std::size_t k_longest = 4096;
  std::array<char, k_longest> bytes{};
  std::size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t count = ::read(file->get(), bytes.data() + size, bytes.size() - size);
    if (count < 0 && errno == EINTR) { continue; }
    if (count < 0) { return unreadable(path, errno); }
    if (count == 0) { break; }
    size += static_cast<std::size_t>(count);
  }
  const std::string_view text(bytes.data(), size);
  std::string_view line = text.substr(0, text.find('\n'));
  if (line.size() == k_longest) { return unfit(path, "its first line is too long for a password"); }
  if (line.ends_with('\r')) { line.remove_suffix(1); } // of an editor that ends lines with two bytes
  if (line.empty()) { return unfit(path, "its first line is empty"); }
  return std::string(line);
}

} // namespace lockrun::engines
