#include "startup/print.hpp"

#include "sys/file.hpp"
#include "sys/signal.hpp"
#include "text/exit_status.hpp"
#include "text/words.hpp"

#include <csignal>

#include <fmt/format.h>

namespace lockrun::cli {

int print(std::string_view text, std::string_view program)
{
  (void)sys::block_signals({SIGPIPE, SIGXFSZ}); // they would end us without a word
  const auto written = sys::write_standard_output(text);
  if (written) { return k_success; }
  (void)sys::write_standard_error(
    fmt::format("{}: cannot write to standard output: {}\n", program, text::errno_words(written.error().code)));
  return k_io_error;
}

} // namespace lockrun::cli
