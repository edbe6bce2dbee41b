#include "timeline/options.hpp"

#include "sys/terminal.hpp"
#include "text/duration.hpp"
#include "text/quote.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <string_view>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace lockrun::timeline {
namespace {

constexpr std::size_t k_narrowest = 20, k_widest = 10000, k_usual_columns = 80;

void add_options(CLI::App& app, Options& options, std::string& last)
{
  app.set_help_flag();
  app.add_option("FILE", options.files, "files of lockrun --events; standard input without one, or with -");
  app.add_option("--svg", options.svg, "Write an SVG to FILE (-: standard output)")->option_text("FILE");
  app.add_option("--width", options.width, "Columns, or pixels of the SVG")
    ->option_text("N")
    ->check(CLI::Range(k_narrowest, k_widest));
  app.add_option("--lock", options.selection.lock, "Only locks with TEXT in their name")->option_text("TEXT");
  app.add_option("--last", last, "Only the last TIME: 90, 5m, 1h30m, 2d")->option_text("TIME");
  app.add_flag_callback(
    "-h,--help", [&] { options.action = Options::Action::help; }, "Print this and exit");
  app.add_flag_callback(
    "-V,--version", [&] { options.action = Options::Action::version; }, "Print the version and exit");
}

std::string_view environment(const char* name)
{
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string_view() : value;
}

std::size_t number_in(std::string_view text)
{
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : 0;
}

bool has_unicode()
{
  std::string locale;
  for (const char* const name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    if (locale.empty()) { locale = environment(name); }
  }
  std::transform(locale.begin(), locale.end(), locale.begin(),
    [](char letter) { return static_cast<char>(std::toupper(static_cast<unsigned char>(letter))); });
  return locale.find("UTF-8") != std::string::npos || locale.find("UTF8") != std::string::npos;
}

} // namespace

Result<Options, std::string> parse_options(int argc, char** argv)
{
  Options options;
  std::string last;
  CLI::App app;
  add_options(app, options, last);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return tl::unexpected(text::escaped(error.what()));
  }
  if (!last.empty()) {
    const auto duration = text::parse_duration(last);
    if (!duration) { return tl::unexpected(fmt::format("--last {}: {}", text::quoted(last), duration.error())); }
    options.selection.last = std::chrono::ceil<microseconds>(*duration);
  }
  if (options.files.empty()) { options.files = {"-"}; }
  return options;
}

std::string help()
{
  Options options;
  std::string last;
  CLI::App app("Draw who held and who waited, from files of lockrun --events", "lockrun-timeline");
  add_options(app, options, last);
  return app.help();
}

Paper paper_of(const Options& options)
{
  const auto terminal = sys::output_columns();
  Paper paper;
  paper.columns = options.width.value_or(number_in(environment("COLUMNS")));
  if (paper.columns == 0) { paper.columns = terminal.value_or(0); }
  if (paper.columns == 0) { paper.columns = k_usual_columns; }
  paper.columns = std::clamp(paper.columns, k_narrowest, k_widest);
  const bool may_colour = terminal && environment("NO_COLOR").empty() && environment("TERM") != "dumb";
  paper.colours = may_colour ? Colours::ansi : Colours::none;
  paper.glyphs = has_unicode() ? Glyphs::unicode : Glyphs::ascii;
  return paper;
}

} // namespace lockrun::timeline
