// lockrun-timeline: draw who held and who waited.
//
//   files ─► timeline/read ─► Calls ─► timeline/picture ─► Picture ─► timeline/terminal, timeline/svg ─► text
//
// What was read is drawn, whatever else was in there: lines that are no events are counted, and that is said once.

#include "startup/print.hpp"
#include "startup/standard_descriptors.hpp"
#include "sys/file.hpp"
#include "text/exit_status.hpp"
#include "text/quote.hpp"
#include "text/words.hpp"
#include "timeline/options.hpp"
#include "timeline/picture.hpp"
#include "timeline/read.hpp"
#include "timeline/svg.hpp"
#include "timeline/terminal.hpp"

#include <lockrun/version.hpp>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <sys/types.h>

namespace {

using namespace lockrun;

void say(const std::string& words)
{
  (void)sys::write_standard_error("lockrun-timeline: " + words + "\n"); // there is nobody else to tell
}

struct Close {
  void operator()(std::FILE* file) const { (void)std::fclose(file); } // has been read, or flushed before
};
using File = std::unique_ptr<std::FILE, Close>;

// The error is an errno.
Result<void, int> read(const std::string& name, timeline::Reader& reader)
{
  const File opened(name == "-" ? nullptr : std::fopen(name.c_str(), "re"));
  std::FILE* const file = name == "-" ? stdin : opened.get();
  if (file == nullptr) { return tl::unexpected(errno); }
  char* line = nullptr;
  std::size_t room = 0;
  errno = 0;
  for (ssize_t size = 0; (size = ::getline(&line, &room, file)) >= 0;) {
    reader.line({line, static_cast<std::size_t>(size)});
  }
  const int error = std::feof(file) != 0 ? 0 : errno;
  std::free(line); // NOLINT(cppcoreguidelines-no-malloc): getline(3) made it
  reader.end_file();
  if (error != 0) { return tl::unexpected(error); }
  return {};
}

// The error is an errno.
Result<void, int> write(const std::string& name, const std::string& text)
{
  const File file(std::fopen(name.c_str(), "we"));
  if (file == nullptr) { return tl::unexpected(errno); }
  const bool is_written = std::fwrite(text.data(), 1, text.size(), file.get()) == text.size();
  if (!is_written || std::fflush(file.get()) != 0) { return tl::unexpected(errno); }
  return {};
}

int print(const std::string& text)
{
  return cli::print(text, "lockrun-timeline");
}

int draw(const timeline::Options& options)
{
  // What is opened must not become standard output, or standard error.
  if (const auto filled = cli::fill_standard_descriptors(); !filled) {
    say("cannot open any file: " + text::errno_words(filled.error().code));
    return k_os_error;
  }
  int status = k_success;
  timeline::Reader reader;
  for (const std::string& file : options.files) {
    const auto done = read(file, reader);
    if (done) { continue; }
    say(fmt::format("cannot read {}: {}", text::quoted(file), text::errno_words(done.error())));
    status = k_no_input;
  }
  if (const std::size_t lines = reader.skipped(); lines > 0) {
    say(fmt::format("skipped {} that {} no event", lines == 1 ? "1 line" : fmt::format("{} lines", lines),
      lines == 1 ? "is" : "are"));
  }
  const auto calls = std::move(reader).calls();
  const timeline::Picture picture = timeline::picture_of(calls, options.selection);
  if (options.svg.empty()) {
    const int printed = print(timeline::terminal_picture(picture, timeline::paper_of(options)));
    return printed != k_success ? printed : status;
  }
  constexpr std::size_t k_usual_pixels = 1200;
  const std::string svg = timeline::svg_picture(picture, options.width.value_or(k_usual_pixels));
  if (options.svg == "-") {
    const int printed = print(svg);
    return printed != k_success ? printed : status;
  }
  const auto written = write(options.svg, svg);
  if (written) { return status; }
  say(fmt::format("cannot write {}: {}", text::quoted(options.svg), text::errno_words(written.error())));
  return k_cannot_create;
}

} // namespace

int main(int argc, char** argv)
{
  const auto options = timeline::parse_options(argc, argv);
  if (!options) {
    say(options.error());
    say("try 'lockrun-timeline --help'");
    return k_usage;
  }
  switch (options->action) {
  case timeline::Options::Action::help:
    return print(timeline::help());
  case timeline::Options::Action::version:
    return print(std::string("lockrun-timeline ") + k_version + "\n");
  case timeline::Options::Action::draw:
    break;
  }
  return draw(*options);
}
