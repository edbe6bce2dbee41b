#include "text/words.hpp"

#include <cstring>

#include <fmt/format.h>

namespace lockrun::text {

std::string errno_words(int code)
{
  const char* const text = ::strerrordesc_np(code);
  const char* const name = ::strerrorname_np(code);
  if (text == nullptr || name == nullptr) { return fmt::format("error {}", code); }
  return fmt::format("{} ({})", text, name);
}

std::string signal_name(int signal)
{
  const char* const name = ::sigabbrev_np(signal);
  return name != nullptr ? fmt::format("SIG{}", name) : fmt::format("{}", signal);
}

} // namespace lockrun::text
