#include "cli/show_status.hpp"

#include "cli/exit_code.hpp"
#include "cli/holder_words.hpp"
#include "cli/json.hpp"
#include "cli/reporter.hpp"
#include "remote/engine_status.hpp"
#include "startup/print.hpp"
#include "startup/standard_descriptors.hpp"
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

Result<LockStatus, Error> status_of(const Question::Lock& lock)
{
  if (lock.engine_url.empty()) { return status(lock.request); }
  auto seen = remote::engine_status(lock.engine_url);
  if (!seen) { seen.error().target = lock.request.path; }
  return seen;
}

} // namespace

int show_status(const Question& question, const Reporting& reporting, int conflict_exit_code)
{
  if (const auto filled = fill_standard_descriptors(); !filled) { return report_no_files(filled.error(), reporting); }
  int exit_code = k_success;
  std::string text;
  std::vector<Row> rows{{"LOCK", "STATE", "PID", "USER", "HELD FOR", "COMMAND"}};
  for (const Question::Lock& lock : question.locks) {
    const std::string name = lock.request.fd ? fmt::format("{}", *lock.request.fd) : lock.request.path;
    const auto seen = status_of(lock);
    if (!seen) {
      report(seen.error(), lock.request, reporting);
      exit_code = exit_code_for(seen.error(), conflict_exit_code);
      continue;
    }
    const bool is_failure = exit_code != k_success && exit_code != conflict_exit_code;
    if (seen->state == LockState::unknown) {
      exit_code = k_no_permission;
    } else if (seen->state != LockState::free && !is_failure) {
      exit_code = conflict_exit_code;
    }
    if (question.json) {
      text += status_line(name, *seen);
    } else {
      add_rows(rows, name, *seen);
    }
  }
  if (!question.json && rows.size() > 1) { text = table_of(rows); }
  const int printed = print(text);
  return printed == k_success ? exit_code : printed;
}

} // namespace lockrun::cli
