#include "cli/show_status.hpp"

#include "backends/engine_status.hpp"
#include "cli/engine_url.hpp"
#include "cli/exit_code.hpp"
#include "cli/holder_words.hpp"
#include "cli/json.hpp"
#include "cli/print.hpp"
#include "cli/report.hpp"
#include "cli/standard_descriptors.hpp"
#include "text/display_width.hpp"
#include "text/duration.hpp"
#include "text/quote.hpp"

#include <lockrun/status.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

namespace lockrun::cli {
namespace {

std::string number_of(const LockUser& user)
{
  return user.pid > 0 ? fmt::format("{}", user.pid) : "";
}

using Row = std::array<std::string, 6>;

std::string held_time(const Holder& holder)
{
  const std::string words = held_time_words(holder);
  return words.empty() ? "" : words.substr(std::string_view("for ").size());
}

// "root", and of an engine's lock "root@host".
std::string owner_of(const LockUser& user)
{
  const std::string name = user.user ? user_name(*user.user) : user.user_name;
  return text::escaped(user.host.empty() ? name : name + "@" + user.host);
}

Row row_of(const Holder& holder)
{
  const char* note = "";
  if (holder.evidence == Holder::Evidence::gone) { note = "(took it and is gone; who has it now cannot be seen)"; }
  if (holder.evidence == Holder::Evidence::taker) { note = " (took it; this user may not look into it)"; }
  const std::string slot = holder.slot ? fmt::format("slot {}", *holder.slot) : mode_name(holder.mode);
  return {"", slot, number_of(holder), owner_of(holder), held_time(holder), command_words(holder.command) + note};
}

Row row_of(const Waiter& waiter)
{
  return {"", fmt::format("waits {}", waiter.position), number_of(waiter), owner_of(waiter), "",
    command_words(waiter.command)};
}

const char* note_on(const LockStatus& status)
{
  if (status.is_missing) { return "(there is no such file)"; }
  if (status.state == LockState::unknown) { return "(this user may not open it)"; }
  return status.state == LockState::free ? "" : "(by a process that cannot be seen from here)";
}

void add_rows(std::vector<Row>& rows, const std::string& lock, const LockStatus& status)
{
  const std::size_t first = rows.size();
  for (const Holder& holder : status.holders) { rows.push_back(row_of(holder)); }
  if (status.holders.empty()) { rows.push_back({"", state_name(status.state), "", "", "", note_on(status)}); }
  for (const Waiter& waiter : status.waiters) { rows.push_back(row_of(waiter)); }
  rows[first][0] = text::escaped(lock);
}

std::string table_of(const std::vector<Row>& rows)
{
  std::array<std::size_t, std::tuple_size_v<Row>> widths{};
  for (const Row& row : rows) {
    for (std::size_t column = 0; column < row.size(); ++column) {
      widths[column] = std::max(widths[column], text::display_width(row[column]));
    }
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t column = 0; column < row.size(); ++column) {
      line += row[column] + std::string(widths[column] + 2 - text::display_width(row[column]), ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

// None when there was a failure, which has been told; `exit_code` is for it.
std::optional<LockStatus> status_here(const Options& about, int& exit_code)
{
  auto seen = status(about.request);
  if (seen) { return std::move(*seen); }
  report(seen.error(), about);
  exit_code = exit_code_for(seen.error(), about.conflict_exit_code);
  return std::nullopt;
}

std::optional<LockStatus> status_beyond(const Options& about, int& exit_code)
{
  auto seen = backends::engine_status(about.engine_url);
  if (seen) { return std::move(*seen); }
  report(seen.error(), about);
  exit_code = exit_code_for(seen.error(), about.conflict_exit_code);
  return std::nullopt;
}

} // namespace

int show_status(const Options& options)
{
  if (const auto filled = fill_standard_descriptors(); !filled) { return report_no_files(filled.error(), options); }
  int exit_code = k_success;
  std::string text;
  std::vector<Row> rows{{"LOCK", "STATE", "PID", "USER", "HELD FOR", "COMMAND"}};
  for (const LockRequest& request : options.asked) {
    const std::string name = request.fd ? fmt::format("{}", *request.fd) : without_password(request.path);
    const bool is_beyond = !backends::engine_name(request.path).empty();
    Options about = options; // the report speaks of one lock
    about.request = request;
    about.request.path = name;
    if (is_beyond) { about.engine_url = request.path; }
    const auto seen = is_beyond ? status_beyond(about, exit_code) : status_here(about, exit_code);
    if (!seen) { continue; }
    const bool is_failure = exit_code != k_success && exit_code != options.conflict_exit_code;
    if (seen->state == LockState::unknown) {
      exit_code = k_no_permission;
    } else if (seen->state != LockState::free && !is_failure) {
      exit_code = options.conflict_exit_code;
    }
    if (options.json) {
      text += status_line(name, *seen);
    } else {
      add_rows(rows, name, *seen);
    }
  }
  if (!options.json && rows.size() > 1) { text = table_of(rows); }
  const int printed = print(text);
  return printed == k_success ? exit_code : printed;
}

} // namespace lockrun::cli
