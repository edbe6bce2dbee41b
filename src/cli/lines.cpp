#include "cli/lines.hpp"

#include "cli/holder_words.hpp"
#include "sys/file.hpp"

#include <chrono>

#include <fmt/format.h>

namespace lockrun::cli {
namespace {

// One that does not read at all must not keep us: no signal would end us.
constexpr std::chrono::seconds k_patience_with_reader{3};

} // namespace

void tell(std::string_view text)
{
  static bool is_read = true;
  if (is_read) {
    is_read = sys::offer_standard_error(fmt::format("lockrun: {}\n", text), k_patience_with_reader).has_value();
  }
}

void tell_now(std::string_view text)
{
  (void)sys::offer_standard_error(fmt::format("lockrun: {}\n", text));
}

void tell_hint(std::string_view text, Verbosity verbosity)
{
  if (!text.empty() && verbosity != Verbosity::quiet) { tell(fmt::format("hint: {}", text)); }
}

void tell(const UsageError& error)
{
  // A URL may stand anywhere in a command line.
  tell(plain_command(error.text));
  tell_hint(plain_command(error.hint), Verbosity::normal);
  tell("try 'lockrun --help'");
}

} // namespace lockrun::cli
