#pragma once

#include <span>
#include <string_view>

namespace lockrun::cli {

struct Options;

enum class OptionId {
  exclusive,
  shared,
  unlock,
  slots,
  nonblock,
  wait,
  conflict_exit_code,
  fair,
  max_waiters,
  also,
  also_shared,
  nested,
  reentrant,
  command,
  shell,
  no_fork,
  hold,
  close,
  max_hold,
  kill_after,
  signal,
  api,
  fcntl,
  start,
  length,
  fd,
  mode,
  no_create,
  no_follow,
  unlink,
  verbose,
  quiet,
  progress,
  events,
  syslog,
  status,
  json,
  probe,
  help,
  version,
};

// One option, and everything that anybody needs to know about it: the scan of the command line, CLI11, the help, the
// shell's completion, and the tests that compare these with the manual.
struct OptionSpec {
  enum class Value { none, required, optional };

  OptionId id;
  Value value;
  std::string_view letters; // "xe": -x and -e
  std::string_view names;   // "nonblock nb": --nonblock and --nb; the first is the one that we write
  const char* value_name;   // as the help shows it; null without a value
  const char* topic;        // heading in the help; options of a topic stand together
  const char* help;         // may have several lines

  // Puts the value into the options ("" without one). Returns what is wrong with it, as the end of a sentence, or null.
  // Null itself for an option that is no value in Options but changes what the command line means.
  const char* (*apply)(Options&, std::string_view value);
};

// All options, in the order of the help.
std::span<const OptionSpec> option_table();

// Calls `visit` with each of the names in "nonblock nb nonblocking", until it returns true. Whether it did.
template <class Visit>
bool any_name(std::string_view names, Visit visit)
{
  while (!names.empty()) {
    const std::string_view name = names.substr(0, names.find(' '));
    if (visit(name)) { return true; }
    names.remove_prefix(name.size() == names.size() ? name.size() : name.size() + 1);
  }
  return false;
}

} // namespace lockrun::cli
