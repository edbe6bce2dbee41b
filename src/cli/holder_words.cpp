#include "cli/holder_words.hpp"

#include "options/engine_url.hpp"
#include "options/option_table.hpp"
#include "options/scan.hpp"
#include "sys/clock.hpp"
#include "sys/passwd.hpp"
#include "text/display_width.hpp"
#include "text/duration.hpp"
#include "text/quote.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace lockrun::cli {
namespace {

constexpr std::size_t k_named_holders = 3;

std::vector<char*> words_in(std::string& line)
{
  std::vector<char*> words;
  for (std::size_t at = 0; at < line.size(); at = line.find('\0', at) + 1) {
    words.push_back(line.data() + at);
    if (line.find('\0', at) == line.npos) { break; }
  }
  return words;
}

bool is_lockrun(std::string_view program)
{
  return program == "lockrun" || program.ends_with("/lockrun");
}

// Where the command of a lockrun begins; nothing if this does not look like one of ours that runs a command.
std::vector<char*> command_of_lockrun(const std::vector<char*>& words)
{
  const int count = static_cast<int>(words.size());
  std::vector<char*> terminated = words;
  terminated.push_back(nullptr);
  const auto scanned = scan(option_table(), count, terminated.data());
  if (!scanned) { return {}; }
  bool has_lock = true;
  for (const Occurrence& occurrence : scanned->options) {
    if (occurrence.option->id == OptionId::command) { return {occurrence.value}; }
    if (occurrence.option->id == OptionId::fd) { has_lock = false; }
  }
  std::vector<char*> command(words.begin() + std::min(count, scanned->operands + (has_lock ? 1 : 0)), words.end());
  if (command.empty()) { return {}; }
  const std::string_view first = command.front();
  const bool is_string = first == "-c" || (first.size() > 3 && std::string_view("--command").starts_with(first));
  if ((is_string || first == "--") && command.size() > 1) { command.erase(command.begin()); }
  return command;
}

// Those of the command that a lockrun runs, of any other process all; they are in `line`.
std::vector<char*> words_of_command(std::string& line)
{
  auto words = words_in(line);
  if (!words.empty() && is_lockrun(words.front())) {
    auto command = command_of_lockrun(words);
    if (!command.empty()) { return command; }
  }
  return words;
}

// One of several, and what is not certain of it.
std::string holder_words(const Holder& holder)
{
  switch (holder.evidence) {
  case Holder::Evidence::gone:
    return fmt::format("PID {} (took it and is gone)", holder.pid);
  case Holder::Evidence::taker:
    return user_words(holder, "took it, this user may not look into it");
  case Holder::Evidence::descriptor:
    break;
  }
  return user_words(holder);
}

std::string without_passwords(std::string line)
{
  while (!line.empty() && line.back() == '\0') { line.pop_back(); }
  hide_passwords(line.data(), line.size());
  return line;
}

std::string listed(const std::vector<Holder>& holders, std::size_t more)
{
  const std::size_t named = std::min(holders.size(), k_named_holders);
  more += holders.size() - named;
  std::string words;
  for (std::size_t i = 0; i < named; ++i) {
    const bool is_last = i > 0 && i + 1 == named && more == 0;
    words += (i == 0 ? "" : is_last ? " and " : ", ") + holder_words(holders[i]);
  }
  return more == 0 ? words : words + fmt::format(" and {} more", more);
}

} // namespace

const char* state_name(LockState state)
{
  switch (state) {
  case LockState::free:
    return "free";
  case LockState::shared:
    return "shared";
  case LockState::exclusive:
    return "exclusive";
  case LockState::held:
    return "held";
  case LockState::unknown:
    break;
  }
  return "unknown";
}

const char* mode_name(Mode mode)
{
  return mode == Mode::shared ? "shared" : "exclusive";
}

std::string plain_command(std::string command_line)
{
  std::string line = without_passwords(std::move(command_line));
  std::replace(line.begin(), line.end(), '\0', ' ');
  return line;
}

std::string plain_command(const std::vector<char*>& argv)
{
  std::string line;
  for (const char* const word : argv) {
    if (word != nullptr) { line.append(word).push_back('\0'); }
  }
  return plain_command(std::move(line));
}

std::string command_words(std::string_view command_line, std::size_t columns)
{
  std::string line = without_passwords(std::string(command_line));
  std::string text;
  for (const char* const word : words_of_command(line)) { text += (text.empty() ? "" : " ") + text::escaped(word); }
  return text::cut_to_width(text, columns);
}

std::string command_run_by(std::string command_line)
{
  std::string line = without_passwords(std::move(command_line));
  std::string text;
  for (const char* const word : words_of_command(line)) { text.append(text.empty() ? "" : " ").append(word); }
  return text;
}

std::string user_name(uid_t user)
{
  const auto name = sys::user_name(user);
  return name ? *name : fmt::format("{}", user);
}

std::string party_words(const Party& party)
{
  if (party.command.empty()) { return fmt::format("PID {}", party.pid); }
  return fmt::format("PID {} ({})", party.pid, command_words(party.command));
}

std::string user_words(const LockUser& user, std::string_view note)
{
  std::string facts = command_words(user.command);
  const std::string owner = user.user ? fmt::format("user {}", text::escaped(user_name(*user.user))) : "";
  for (const std::string_view fact : {std::string_view(owner), note}) {
    facts.append(facts.empty() || fact.empty() ? "" : ", ").append(fact);
  }
  return facts.empty() ? fmt::format("PID {}", user.pid) : fmt::format("PID {} ({})", user.pid, facts);
}

std::string held_time_words(const Holder& holder)
{
  if (!holder.since) { return {}; }
  using std::chrono::seconds;
  auto held = std::max(sys::wall_now() - *holder.since, std::chrono::nanoseconds(0));
  if (held >= seconds(1)) { held = std::chrono::duration_cast<seconds>(held); }
  const bool is_known = holder.since_kind == Holder::SinceKind::acquired;
  return fmt::format("for {}{}", is_known ? "" : "at most ", text::duration_text(held));
}

std::string held_words(const LockStatus& status)
{
  const auto& holders = status.holders;
  if (holders.empty() && status.state == LockState::unknown && !status.waiters.empty()) {
    return fmt::format("free just now, but {} wait for it in the queue", status.waiters.size());
  }
  if (holders.empty()) {
    // Without its line in the kernel's list it may have been freed before that was read.
    const char* const addition = status.state == LockState::unknown ? ", or was until just now" : "";
    return fmt::format("held by a process that cannot be seen from here{}", addition);
  }
  if (holders.size() > 1 || status.more_holders > 0) { return "held by " + listed(holders, status.more_holders); }
  const Holder& holder = holders.front();
  switch (holder.evidence) {
  case Holder::Evidence::gone:
    return fmt::format("held by a process that cannot be seen from here, taken by PID {}, which is gone", holder.pid);
  case Holder::Evidence::taker:
    return fmt::format("held, taken by {}, which this user may not look into", user_words(holder));
  case Holder::Evidence::descriptor:
    break;
  }
  const std::string time = held_time_words(holder);
  return "held by " + user_words(holder) + (time.empty() ? "" : " " + time);
}

} // namespace lockrun::cli
