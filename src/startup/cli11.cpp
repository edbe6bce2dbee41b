#include "startup/cli11.hpp"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <memory>
#include <utility>

// The functions that make the objects of CLI11's headers, if late_init.ld has moved them here; else they have run
// before main().
extern "C" {
// NOLINTBEGIN(readability-identifier-naming)
extern void (*const lockrun_late_init_begin[])() __attribute__((weak, visibility("hidden")));
extern void (*const lockrun_late_init_end[])() __attribute__((weak, visibility("hidden")));
// NOLINTEND(readability-identifier-naming)
}

namespace lockrun::cli {
namespace {

// To be called before anything of CLI11 is used.
void prepare_cli11()
{
  std::for_each(lockrun_late_init_begin, lockrun_late_init_end, [](void (*const make)()) { make(); });
}

void add(CLI::App& app, const GivenOption& option)
{
  if (app.get_option_no_throw(option.name) != nullptr) { return; }
  const auto set_flag = [&option] { (void)option.take({}); };
  const auto set_value = [&option](const CLI::results_t& values) { return option.take(values.front()); };
  CLI::Option* const added =
    option.value ? app.add_option(option.name, set_value) : app.add_flag_callback(option.name, set_flag);
  added->trigger_on_parse();
}

// The name and the value, as arguments.
void append(std::vector<std::string>& arguments, const GivenOption& option)
{
  arguments.push_back(option.name);
  if (!option.value) { return; }
  if (option.value->starts_with('-')) { // as a word of its own it would look like an option
    arguments.back().append(option.name.starts_with("--") ? "=" : "").append(*option.value);
  } else {
    arguments.push_back(*option.value);
  }
}

class HelpFormatter : public CLI::Formatter {
public:
  explicit HelpFormatter(std::string usage) : m_usage(std::move(usage)) {}

  std::string make_usage(const CLI::App*, std::string) const override { return m_usage; }

  // One empty line between two groups; CLI11 makes two.
  std::string make_group(std::string group, bool, std::vector<const CLI::Option*> options) const override
  {
    std::string text = group + ":\n";
    for (const CLI::Option* option : options) { text += make_option(option, false); }
    return text;
  }

  std::string make_option_opts(const CLI::Option* option) const override
  {
    const std::string& value = option->get_option_text();
    return (value.empty() || value.front() == '[' ? "" : " ") + value;
  }

  std::string make_option_name(const CLI::Option* option, bool) const override
  {
    std::string names;
    for (const std::string& letter : option->get_snames()) { names += (names.empty() ? "-" : ", -") + letter; }
    for (const std::string& name : option->get_lnames()) { names += (names.empty() ? "    --" : ", --") + name; }
    return names;
  }

private:
  std::string m_usage;
};

} // namespace

std::optional<std::string> take_values(const std::vector<GivenOption>& given)
{
  prepare_cli11();
  CLI::App app;
  app.set_help_flag(); // ours is an option like any other
  std::vector<std::string> arguments;
  for (const GivenOption& option : given) {
    add(app, option);
    append(arguments, option);
  }
  std::reverse(arguments.begin(), arguments.end()); // as CLI11 wants them
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::Error& thrown) {
    return thrown.what();
  }
  return std::nullopt;
}

std::string help_text(const std::string& usage, const std::vector<HelpEntry>& entries, const std::string& footer)
{
  prepare_cli11();
  CLI::App app;
  app.set_help_flag();
  for (const HelpEntry& entry : entries) {
    CLI::Option* const added = app.add_option(entry.names, CLI::callback_t(), entry.text);
    added->group(entry.topic);
    if (entry.value.empty()) {
      added->type_size(0);
    } else {
      added->option_text(entry.value);
    }
  }
  const auto formatter = std::make_shared<HelpFormatter>(usage);
  formatter->column_width(28);
  app.formatter(formatter);
  app.footer(footer);
  return app.help();
}

} // namespace lockrun::cli
