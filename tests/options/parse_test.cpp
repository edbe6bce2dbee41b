#include "options/parse.hpp"

#include "options/arguments.hpp"
#include "options/option_table.hpp"
#include "options/sample_value.hpp"
#include "options/scan.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace lockrun;
using namespace lockrun::cli;
using Words = std::vector<std::string>;

// All that differs from a plain exclusive lock, in words; the command in brackets.
std::string described(const Options& options)
{
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : " ") + part; };
  switch (options.call.action) {
  case Action::run:
    break;
  case Action::lock_descriptor:
    add("lock");
    break;
  case Action::unlock_descriptor:
    add("unlock");
    break;
  case Action::status:
    add("status");
    break;
  case Action::probe:
    add("probe");
    break;
  case Action::help:
    add("help");
    break;
  case Action::version:
    add("version");
    break;
  }
  const LockRequest& request =
    options.question.locks.empty() ? options.call.request : options.question.locks.front().request;
  if (!request.path.empty()) { add("path=" + request.path); }
  if (request.fd) { add(fmt::format("fd={}", *request.fd)); }
  if (request.mode == Mode::shared) { add("shared"); }
  if (request.api == Api::ofd) { add("ofd"); }
  if (request.api == Api::both) { add("both"); }
  if (request.range != Range{}) { add(fmt::format("range={}+{}", request.range.start, request.range.length)); }
  if (request.patience) { add(fmt::format("patience={}ns", request.patience->count())); }
  if (request.file.mode) { add(fmt::format("mode={:o}", *request.file.mode)); }
  if (!request.file.create) { add("no-create"); }
  if (!request.file.follow) { add("no-follow"); }
  if (request.file.unlink) { add("unlink"); }
  if (request.fair) { add("fair"); }
  if (request.slots != 0) { add(fmt::format("slots={}", request.slots)); }
  for (const FurtherLock& further : request.also) {
    add((further.mode == Mode::shared ? "also-shared=" : "also=") + further.path);
  }
  if (request.max_waiters) { add(fmt::format("max-waiters={}", *request.max_waiters)); }
  if (options.call.rules.lifetime == Lifetime::wrapper) { add("wrapper"); }
  if (options.call.rules.lifetime == Lifetime::tree) { add("tree"); }
  if (options.call.rules.lifetime == Lifetime::exec) { add("exec"); }
  if (options.call.rules.max_hold) { add(fmt::format("max-hold={}ns", options.call.rules.max_hold->count())); }
  if (options.call.rules.kill_after != std::chrono::seconds(10)) {
    add(fmt::format("kill-after={}ns", options.call.rules.kill_after.count()));
  }
  if (options.call.rules.end_signal != SIGTERM) { add(fmt::format("signal={}", options.call.rules.end_signal)); }
  if (request.nested == Nested::run) { add("nested=run"); }
  if (request.nested == Nested::wait) { add("nested=wait"); }
  if (options.call.conflict_exit_code != 75) { add(fmt::format("conflict={}", options.call.conflict_exit_code)); }
  if (options.call.reporting.verbosity == Verbosity::verbose) { add("verbose"); }
  if (options.call.reporting.verbosity == Verbosity::quiet) { add("quiet"); }
  if (options.call.reporting.progress) { add(fmt::format("progress={}ns", options.call.reporting.progress->count())); }
  if (!options.call.reporting.events.empty()) { add("events=" + options.call.reporting.events); }
  if (options.call.reporting.syslog) { add("syslog"); }
  if (options.question.json) { add("json"); }
  if (options.question.locks.size() > 1) { add(fmt::format("asked={}", options.question.locks.size())); }
  for (const char* word : options.call.command) {
    if (word != nullptr) { add("[" + std::string(word) + "]"); }
  }
  return text;
}

struct Row {
  const char* name;
  Words words;
  const char* expected;
};

const Row k_rows[] = {
  {"command", {"L", "cmd", "a"}, "path=L [cmd] [a]"},
  {"command_with_options_of_its_own", {"L", "cmd", "-n", "--help", "--"}, "path=L [cmd] [-n] [--help] [--]"},
  {"command_that_looks_like_an_option", {"L", "-x", "a"}, "path=L [-x] [a]"},
  {"one_leading_dash_dash_is_dropped", {"L", "--", "cmd", "a"}, "path=L [cmd] [a]"},
  {"only_one_dash_dash_is_dropped", {"L", "--", "--", "cmd"}, "path=L [--] [cmd]"},
  {"dash_dash_before_lock_and_behind", {"--", "-n", "--", "cmd"}, "path=-n [cmd]"},
  {"dash_c_behind_dash_dash_is_a_command", {"L", "--", "-c", "x"}, "path=L [-c] [x]"},
  {"empty_argument_of_the_command", {"L", "cmd", ""}, "path=L [cmd] []"},
  {"shell_string", {"L", "-c", "a | b"}, "path=L [/bin/sh] [-c] [a | b]"},
  {"shell_string_long", {"L", "--command", "a"}, "path=L [/bin/sh] [-c] [a]"},
  {"shell_string_empty", {"L", "-c", ""}, "path=L [/bin/sh] [-c] []"},
  {"shell_string_like_an_option", {"L", "-c", "--"}, "path=L [/bin/sh] [-c] [--]"},
  {"shell_string_before_lock", {"-c", "a", "L"}, "path=L [/bin/sh] [-c] [a]"},
  {"shell_string_in_brackets", {"-c", "[ -f x ]", "L"}, "path=L [/bin/sh] [-c] [[ -f x ]]"},
  {"last_shell_string_before_lock", {"-c", "a", "-cb", "L"}, "path=L [/bin/sh] [-c] [b]"},
  {"other_shell", {"--shell", "/bin/bash", "L", "-c", "a"}, "path=L [/bin/bash] [-c] [a]"},
  {"other_shell_without_string", {"--shell=/bin/bash", "L", "cmd"}, "path=L [cmd]"},
  {"prefix_of_command_behind_lock_is_a_command", {"L", "--comm", "a"}, "path=L [--comm] [a]"},

  {"descriptor", {"9"}, "lock fd=9"},
  {"descriptor_with_options", {"-sn", "9"}, "lock fd=9 shared patience=0ns"},
  {"descriptor_zero", {"0"}, "lock fd=0"},
  {"descriptor_highest", {"2147483647"}, "lock fd=2147483647"},
  {"descriptor_unlocked", {"-u", "9"}, "unlock fd=9"},
  {"descriptor_unlocked_ofd", {"--fcntl", "--unlock", "9"}, "unlock fd=9 ofd"},
  {"digits_with_a_command_are_a_path", {"9", "cmd"}, "path=9 [cmd]"},
  {"digits_with_a_string_are_a_path", {"9", "-c", "a"}, "path=9 [/bin/sh] [-c] [a]"},
  {"digits_with_a_string_before_are_a_path", {"-c", "a", "9"}, "path=9 [/bin/sh] [-c] [a]"},
  {"descriptor_around_a_command", {"--fd", "9", "cmd", "-x"}, "fd=9 [cmd] [-x]"},
  {"descriptor_around_a_string", {"--fd", "9", "-c", "a"}, "fd=9 [/bin/sh] [-c] [a]"},
  {"descriptor_around_a_command_behind_dash_dash", {"--fd=9", "--", "-c", "a"}, "fd=9 [-c] [a]"},
  {"descriptor_and_no_fork", {"-F", "--fd=9", "cmd"}, "fd=9 exec [cmd]"},

  {"exclusive", {"-s", "-x", "L", "c"}, "path=L [c]"},
  {"exclusive_other_letter", {"-s", "-e", "L", "c"}, "path=L [c]"},
  {"shared_last", {"-x", "-s", "L", "c"}, "path=L shared [c]"},
  {"exclusive_after_unlock", {"-u", "-x", "9"}, "lock fd=9"},
  {"shared_repeated", {"-s", "-x", "-s", "L", "c"}, "path=L shared [c]"},
  {"nonblock", {"-n", "L", "c"}, "path=L patience=0ns [c]"},
  {"nb", {"--nb", "L", "c"}, "path=L patience=0ns [c]"},
  {"nonblocking", {"--nonblocking", "L", "c"}, "path=L patience=0ns [c]"},
  {"wait", {"-w", "1h30m", "L", "c"}, "path=L patience=5400000000000ns [c]"},
  {"wait_fraction", {"-w.5", "L", "c"}, "path=L patience=500000000ns [c]"},
  {"wait_zero_is_nonblock", {"--wait=0", "L", "c"}, "path=L patience=0ns [c]"},
  {"wait_after_nonblock", {"-n", "-w5", "L", "c"}, "path=L patience=5000000000ns [c]"},
  {"nonblock_after_wait", {"-w5", "-n", "L", "c"}, "path=L patience=0ns [c]"},
  {"last_wait", {"-w5", "--timeout=6", "--wait", "7", "L", "c"}, "path=L patience=7000000000ns [c]"},
  {"conflict_exit_code", {"-E", "0", "L", "c"}, "path=L conflict=0 [c]"},
  {"conflict_exit_code_highest", {"--conflict-exit-code=255", "L", "c"}, "path=L conflict=255 [c]"},
  {"bundle", {"-nE", "9", "-w5", "L", "c"}, "path=L patience=5000000000ns conflict=9 [c]"},
  {"fair", {"--fair", "L", "c"}, "path=L fair [c]"},
  {"slots", {"-j4", "L", "c"}, "path=L slots=4 [c]"},
  {"slots_of_an_exclusive_kind", {"-s", "-x", "--slots=256", "L", "c"}, "path=L slots=256 [c]"},
  {"max_waiters", {"--max-waiters", "1", "-E0", "L", "c"}, "path=L max-waiters=1 conflict=0 [c]"},
  {"max_waiters_of_a_descriptor", {"--max-waiters=0", "9"}, "lock fd=9 max-waiters=0"},
  {"no_fork_with_slots", {"-Fj1", "L", "c"}, "path=L slots=1 exec [c]"},
  {"also", {"--also", "M", "--also-shared=name:n", "-s", "--also", "-x", "L", "c"},
    "path=L shared also=M also-shared=name:n also=-x [c]"},
  {"also_with_fair_and_no_fork", {"--also", "M", "--fair", "-F", "L", "c"}, "path=L fair also=M exec [c]"},
  {"no_fork", {"-F", "L", "c"}, "path=L exec [c]"},
  {"close", {"-o", "L", "c"}, "path=L wrapper [c]"},
  {"hold_wrapper", {"--hold", "wrapper", "L", "c"}, "path=L wrapper [c]"},
  {"hold_command_after_close", {"-o", "--hold=command", "L", "c"}, "path=L [c]"},
  {"hold_tree", {"-o", "--hold", "tree", "L", "c"}, "path=L tree [c]"},
  {"max_hold", {"--max-hold=1m", "L", "c"}, "path=L max-hold=60000000000ns [c]"},
  {"kill_after", {"--max-hold=1", "-k", "0", "L", "c"}, "path=L max-hold=1000000000ns kill-after=0ns [c]"},
  {"kill_after_long", {"--kill-after=1ms", "--max-hold=1", "L", "c"},
    "path=L max-hold=1000000000ns kill-after=1000000ns [c]"},
  {"signal_by_name", {"--max-hold=1", "--signal=INT", "L", "c"}, "path=L max-hold=1000000000ns signal=2 [c]"},
  {"signal_by_full_name", {"--max-hold=1", "--signal", "SIGUSR1", "L", "c"},
    "path=L max-hold=1000000000ns signal=10 [c]"},
  {"signal_by_number", {"--max-hold=1", "--signal=9", "L", "c"}, "path=L max-hold=1000000000ns signal=9 [c]"},
  {"signal_of_real_time", {"--max-hold=1", "--signal=64", "L", "c"}, "path=L max-hold=1000000000ns signal=64 [c]"},
  {"max_hold_around_a_descriptor", {"--max-hold=1", "--fd=9", "c"}, "fd=9 max-hold=1000000000ns [c]"},
  {"nested_run", {"--nested", "run", "L", "c"}, "path=L nested=run [c]"},
  {"nested_wait", {"--reentrant", "--nested=wait", "L", "c"}, "path=L nested=wait [c]"},
  {"nested_fail", {"--nested=wait", "--nested=fail", "L", "c"}, "path=L [c]"},
  {"reentrant", {"--nested=wait", "--reentrant", "L", "c"}, "path=L nested=run [c]"},
  {"nested_of_a_descriptor", {"--reentrant", "9"}, "lock fd=9 nested=run"},
  {"unlink", {"--unlink", "L", "c"}, "path=L unlink [c]"},
  {"api_ofd", {"--api=ofd", "L", "c"}, "path=L ofd [c]"},
  {"api_both", {"--api=both", "L", "c"}, "path=L both [c]"},
  {"fcntl", {"--fcntl", "L", "c"}, "path=L ofd [c]"},
  {"api_flock_after_fcntl", {"--fcntl", "--api=flock", "L", "c"}, "path=L [c]"},
  {"start", {"--start", "5", "L", "c"}, "path=L ofd range=5+4611686018427387899 [c]"},
  {"length", {"--length", "5", "L", "c"}, "path=L ofd range=0+5 [c]"},
  {"start_and_length", {"--length=7", "--start=5", "L", "c"}, "path=L ofd range=5+7 [c]"},
  {"length_zero_is_to_the_end", {"--start=5", "--length=0", "L", "c"}, "path=L ofd range=5+4611686018427387899 [c]"},
  {"start_zero_is_the_whole_lock", {"--start=0", "L", "c"}, "path=L ofd [c]"},
  {"last_byte", {"--start=4611686018427387903", "L", "c"}, "path=L ofd range=4611686018427387903+1 [c]"},
  {"range_with_both", {"--api=both", "--length=1", "L", "c"}, "path=L both range=0+1 [c]"},
  {"range_with_flock_and_then_ofd", {"--api=flock", "--length=1", "--fcntl", "L", "c"}, "path=L ofd range=0+1 [c]"},
  {"range_of_a_descriptor", {"--length=1", "9"}, "lock fd=9 ofd range=0+1"},
  {"mode", {"--mode", "0640", "L", "c"}, "path=L mode=640 [c]"},
  {"mode_zero", {"--mode=0", "L", "c"}, "path=L mode=0 [c]"},
  {"mode_highest", {"--mode=7777", "L", "c"}, "path=L mode=7777 [c]"},
  {"no_create_no_follow", {"--no-create", "--no-follow", "L", "c"}, "path=L no-create no-follow [c]"},
  {"verbose", {"-q", "-v", "L", "c"}, "path=L verbose [c]"},
  {"quiet", {"-v", "-q", "L", "c"}, "path=L quiet [c]"},

  {"lock_that_is_a_dash", {"-", "c"}, "path=- [c]"},
  {"name", {"name:x", "c"}, "path=name:x [c]"},
  {"name_of_all_that_there_can_be", {"name:aZ09._-", "c"}, "path=name:aZ09._- [c]"},
  {"name_of_three_dots", {"name:...", "c"}, "path=name:... [c]"},
  {"file_called_like_a_name", {"./name:a/b", "c"}, "path=./name:a/b [c]"},
  {"help", {"-h"}, "help"},
  {"help_among_others", {"-n", "--help", "--bogus"}, "help"},
  {"help_in_spite_of_a_bad_value", {"-w", "x", "--help"}, "help"},
  {"version", {"-V"}, "version"},
  {"status_of_one", {"--status", "L"}, "status path=L"},
  {"status_of_several", {"--status", "--json", "-E0", "L", "9", "name:a"}, "status path=L conflict=0 json asked=3"},
  {"probe", {"--probe", "--api=ofd", "L"}, "probe path=L ofd"},
  {"progress_without_a_value", {"--progress", "L", "cmd"}, "path=L progress=30000000000ns [cmd]"},
  {"progress_with_a_value", {"--progress=1m", "L", "cmd"}, "path=L progress=60000000000ns [cmd]"},
  {"events_to_a_file", {"--events", "f", "L", "cmd"}, "path=L events=f [cmd]"},
  {"events_to_a_descriptor", {"--events=fd:3", "L", "cmd"}, "path=L events=fd:3 [cmd]"},
};

class CommandLines : public testing::TestWithParam<Row> {};

TEST_P(CommandLines, AreUnderstood)
{
  const Arguments arguments(GetParam().words);
  const auto options = parse_options(arguments.argc(), arguments.argv());
  ASSERT_TRUE(options.has_value()) << options.error().text;
  EXPECT_EQ(described(*options), GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
  Table, CommandLines, testing::ValuesIn(k_rows), [](const auto& row) { return std::string(row.param.name); });

const Row k_refused[] = {
  {"nothing", {}, "missing LOCK"},
  {"only_options", {"-n", "-w5"}, "missing LOCK"},
  {"only_dash_dash", {"--"}, "missing LOCK"},
  {"string_but_no_lock", {"-c", "a"}, "missing LOCK"},
  {"empty_lock", {"", "cmd"}, "LOCK is empty"},
  {"empty_lock_alone", {""}, "LOCK is empty"},
  {"missing_command", {"/tmp/L"}, "missing command behind '/tmp/L'"},
  {"missing_command_of_a_hostile_lock", {"a\n\x1b[2J"}, R"(missing command behind 'a\n\x1b[2J')"},
  {"missing_command_behind_dash_dash", {"L", "--"}, "missing command behind '--'"},
  {"missing_command_behind_digits_and_dash_dash", {"9", "--"}, "missing command behind '--'"},
  {"missing_command_behind_fd", {"--fd", "9"},
    "missing command behind '--fd' -> 'lockrun FD' locks a descriptor of the calling shell"},
  {"empty_command", {"L", ""}, "the command's name is empty"},
  {"empty_command_behind_dash_dash", {"L", "--", ""}, "the command's name is empty"},
  {"empty_command_behind_fd", {"--fd=9", ""}, "the command's name is empty"},
  {"probe_of_a_descriptor", {"--probe", "9"},
    "'--probe' and the descriptor '9' contradict each other: it opens the file twice"},
  {"string_missing", {"L", "-c"}, "'-c' needs a value: STRING"},
  {"string_missing_long", {"L", "--command"}, "'--command' needs a value: STRING"},
  {"string_missing_behind_digits", {"9", "-c"}, "'-c' needs a value: STRING"},
  {"string_and_more", {"L", "-c", "a", "b"},
    "'-c' takes one STRING, and 'b' is left over -> quote the whole of the shell's command"},
  {"string_and_command", {"-c", "a", "L", "cmd"}, "'-c' gives a command, and 'cmd' is another one"},
  {"string_twice", {"--command=a", "L", "-c", "b"}, "'--command' gives a command, and '-c' is another one"},
  {"string_and_command_of_a_descriptor", {"--fd=9", "-c", "a", "cmd"},
    "'-c' gives a command, and 'cmd' is another one"},
  {"empty_shell", {"--shell=", "L", "-c", "a"}, "bad value '' for '--shell': it is empty"},

  {"unknown_option", {"--bogus", "L", "c"}, "unknown option '--bogus'"},
  {"wait_is_no_duration", {"-w", "soon", "L", "c"},
    "bad value 'soon' for '-w': it is no duration such as 90, .5, 30s, 5m or 1h30m"},
  {"value_like_an_option", {"--conflict-exit-code", "-w", "L", "c"},
    "bad value '-w' for '--conflict-exit-code': it is no whole number from 0 to 255"},
  {"value_like_the_end_of_options", {"-E", "--", "L", "c"},
    "bad value '--' for '-E': it is no whole number from 0 to 255"},
  {"value_that_begins_with_an_equals_sign", {"-E=9", "L", "c"},
    "bad value '=9' for '-E': it is no whole number from 0 to 255"},
  {"wait_trailing_letters", {"-w", "5sec", "L", "c"}, "bad value '5sec' for '-w': the units are us, ms, s, m, h and d"},
  {"wait_negative", {"--wait", "-1", "L", "c"}, "bad value '-1' for '--wait': it is negative"},
  {"wait_empty", {"--timeout=", "L", "c"}, "bad value '' for '--timeout': it is empty"},
  {"wait_empty_next", {"-w", "", "L", "c"}, "bad value '' for '-w': it is empty"},
  {"wait_unit_missing", {"-w1h30", "L", "c"}, "bad value '1h30' for '-w': a number lacks its unit"},
  {"wait_too_long", {"-w", "99999999999", "L", "c"}, "bad value '99999999999' for '-w': it is longer than 36500d"},
  {"wait_with_escapes", {"-w", "\x1b", "L", "c"},
    R"(bad value '\x1b' for '-w': it is no duration such as 90, .5, 30s, 5m or 1h30m)"},
  {"bad_value_before_a_good_one", {"-w", "x", "--wait=5", "L", "c"},
    "bad value 'x' for '-w': it is no duration such as 90, .5, 30s, 5m or 1h30m"},
  {"bad_value_behind_a_good_one", {"-w", "5", "--wait=x", "L", "c"},
    "bad value 'x' for '--wait': it is no duration such as 90, .5, 30s, 5m or 1h30m"},
  {"exit_code_too_high", {"-E", "256", "L", "c"}, "bad value '256' for '-E': it is no whole number from 0 to 255"},
  {"exit_code_negative", {"-E", "-1", "L", "c"}, "bad value '-1' for '-E': it is no whole number from 0 to 255"},
  {"exit_code_trailing", {"-E9x", "L", "c"}, "bad value '9x' for '-E': it is no whole number from 0 to 255"},
  {"exit_code_space", {"-E", " 9", "L", "c"}, "bad value ' 9' for '-E': it is no whole number from 0 to 255"},
  {"exit_code_plus", {"-E", "+9", "L", "c"}, "bad value '+9' for '-E': it is no whole number from 0 to 255"},
  {"exit_code_minus_zero", {"-E", "-0", "L", "c"}, "bad value '-0' for '-E': it is no whole number from 0 to 255"},
  {"exit_code_hexadecimal", {"-E0x9", "L", "c"}, "bad value '0x9' for '-E': it is no whole number from 0 to 255"},
  {"exit_code_huge", {"-E99999999999999999999", "L", "c"},
    "bad value '99999999999999999999' for '-E': it is no whole number from 0 to 255"},
  {"exit_code_of_brackets", {"-E", "{}", "L", "c"}, "bad value '{}' for '-E': it is no whole number from 0 to 255"},
  {"exit_code_of_square_brackets", {"-E", "[1]", "L", "c"},
    "bad value '[1]' for '-E': it is no whole number from 0 to 255"},
  {"exit_code_like_dash_dash", {"-E", "--", "L", "c"}, "bad value '--' for '-E': it is no whole number from 0 to 255"},
  {"exit_code_like_another_option", {"-n", "-E", "--nonblock", "L", "c"},
    "bad value '--nonblock' for '-E': it is no whole number from 0 to 255"},
  {"hold", {"--hold=forever", "L", "c"},
    "bad value 'forever' for '--hold': it is none of 'command', 'tree' and 'wrapper'"},
  {"max_hold", {"--max-hold=x", "L", "c"},
    "bad value 'x' for '--max-hold': it is no duration such as 90, .5, 30s, 5m or 1h30m"},
  {"max_hold_zero", {"--max-hold=0", "L", "c"}, "bad value '0' for '--max-hold': it would end the command at once"},
  {"kill_after", {"-kx", "L", "c"}, "bad value 'x' for '-k': it is no duration such as 90, .5, 30s, 5m or 1h30m"},
  {"signal", {"--signal=TREM", "L", "c"},
    "bad value 'TREM' for '--signal': it is no signal such as TERM, SIGTERM or 15"},
  {"signal_zero", {"--signal=0", "L", "c"},
    "bad value '0' for '--signal': it is no signal such as TERM, SIGTERM or 15"},
  {"signal_too_high", {"--signal=65", "L", "c"},
    "bad value '65' for '--signal': it is no signal such as TERM, SIGTERM or 15"},
  {"signal_empty", {"--signal=SIG", "L", "c"},
    "bad value 'SIG' for '--signal': it is no signal such as TERM, SIGTERM or 15"},
  {"nested", {"--nested=yes", "L", "c"}, "bad value 'yes' for '--nested': it is none of 'fail', 'run' and 'wait'"},
  {"name_empty", {"name:", "c"},
    "bad name '' behind 'name:': it is empty -> './name:...' is a file of that name in the current directory"},
  {"name_of_a_dot", {"name:.", "c"},
    "bad name '.' behind 'name:': it is a directory -> './name:...' is a file of that name in the current directory"},
  {"name_of_two_dots", {"name:..", "c"},
    "bad name '..' behind 'name:': it is a directory -> './name:...' is a file of that name in the current directory"},
  {"name_with_a_slash", {"name:../a", "c"},
    "bad name '../a' behind 'name:': there can be letters, digits, and '.', '_' and '-' -> './name:...' is a file of "
    "that name in the current directory"},
  {"api", {"--api=posix", "L", "c"}, "bad value 'posix' for '--api': it is none of 'flock', 'ofd' and 'both'"},
  {"start_negative", {"--start=-1", "L", "c"},
    "bad value '-1' for '--start': it is no whole number from 0 to 4611686018427387904"},
  {"start_huge", {"--start=9223372036854775807", "L", "c"},
    "bad value '9223372036854775807' for '--start': it is no whole number from 0 to 4611686018427387904"},
  {"length_huge", {"--length=9223372036854775808", "L", "c"},
    "bad value '9223372036854775808' for '--length': it is no whole number from 0 to 4611686018427387904"},
  {"range_above_the_lock", {"--start=4611686018427387903", "--length=2", "L", "c"},
    "the range of '--length' ends above byte 4611686018427387903 -> the bytes above it belong to lockrun's own queues"},
  {"start_above_the_lock", {"--start=4611686018427387904", "L", "c"},
    "the range of '--start' ends above byte 4611686018427387903 -> the bytes above it belong to lockrun's own queues"},
  {"fd_no_number", {"--fd=x", "c"}, "bad value 'x' for '--fd': it is no descriptor's number"},
  {"fd_too_high", {"--fd=2147483648", "c"}, "bad value '2147483648' for '--fd': it is no descriptor's number"},
  {"descriptor_too_high", {"2147483648"}, "there can be no descriptor '2147483648'"},
  {"mode_no_octal", {"--mode=0888", "L", "c"}, "bad value '0888' for '--mode': it is no octal number from 0 to 7777"},
  {"mode_too_high", {"--mode=10000", "L", "c"}, "bad value '10000' for '--mode': it is no octal number from 0 to 7777"},
  {"mode_of_letters", {"--mode=u=rw", "L", "c"}, "bad value 'u=rw' for '--mode': it is no octal number from 0 to 7777"},

  {"slots_none", {"-j0", "L", "c"}, "bad value '0' for '-j': it is no whole number from 1 to 256"},
  {"slots_too_many", {"--slots=257", "L", "c"}, "bad value '257' for '--slots': it is no whole number from 1 to 256"},
  {"max_waiters_negative", {"--max-waiters=-1", "L", "c"},
    "bad value '-1' for '--max-waiters': it is no whole number from 0 to 100000"},
  {"slots_shared", {"-x", "-s", "-j2", "L", "c"}, "'-j' and '-s' contradict each other: a slot belongs to one holder"},
  {"slots_with_unlink", {"--unlink", "--slots=2", "L", "c"},
    "'--unlink' and '--slots' contradict each other: who queues does so in the file"},
  {"fair_with_unlink", {"--unlink", "--fair", "L", "c"},
    "'--unlink' and '--fair' contradict each other: who queues does so in the file"},
  {"max_waiters_with_unlink", {"--unlink", "--max-waiters=1", "L", "c"},
    "'--unlink' and '--max-waiters' contradict each other: who queues does so in the file"},
  {"also_empty", {"--also", "", "L", "c"}, "bad value '' for '--also': it is empty"},
  {"also_bad_name", {"--also", "name:a/b", "L", "c"},
    "bad name 'a/b' behind 'name:': there can be letters, digits, and '.', '_' and '-' -> './name:...' is a file of "
    "that "
    "name in the current directory"},
  {"also_with_slots", {"--also", "M", "-j2", "L", "c"},
    "'-j' and '--also' contradict each other: slots are of one lock"},
  {"also_shared_with_slots", {"--slots=2", "--also-shared", "M", "L", "c"},
    "'--slots' and '--also-shared' contradict each other: slots are of one lock"},
  {"also_with_max_waiters", {"--also", "M", "--max-waiters=1", "L", "c"},
    "'--max-waiters' and '--also' contradict each other: those are counted who wait for one lock"},
  {"also_descriptor", {"--also", "M", "9"},
    "'--also' and descriptor '9' contradict each other: a descriptor is locked by itself"},
  {"also_with_fd", {"--fd=9", "--also", "M", "c"},
    "'--also' and '--fd' contradict each other: a descriptor is locked by itself"},
  {"fair_descriptor", {"--fair", "9"},
    "'--fair' and descriptor '9' contradict each other: only a file that lockrun opens has a queue"},
  {"slots_of_a_descriptor", {"--fd=9", "-j2", "c"},
    "'-j' and '--fd' contradict each other: only a file that lockrun opens has a queue"},
  {"no_fork_with_close", {"-F", "-o", "L", "c"},
    "'-F' and '-o' contradict each other: lockrun becomes the command and frees nothing"},
  {"no_fork_with_hold", {"--hold", "command", "--no-f", "L", "c"},
    "ambiguous option '--no-f': it could be '--no-fork' or "
    "'--no-follow'"},
  {"no_fork_with_hold_command", {"--hold", "command", "--no-fork", "L", "c"},
    "'--no-fork' and '--hold' contradict each other: lockrun becomes the command and frees nothing"},
  {"no_fork_with_max_hold", {"-F", "--max-hold=1", "L", "c"},
    "'-F' and '--max-hold' contradict each other: lockrun becomes the command and frees nothing"},
  {"start_with_unlink", {"--unlink", "--start=2", "L", "c"},
    "'--unlink' and '--start' contradict each other: others may hold the rest of the file"},
  {"length_with_unlink", {"--length=2", "--unlink", "L", "c"},
    "'--unlink' and '--length' contradict each other: others may hold the rest of the file"},
  {"no_fork_with_unlink", {"--unlink", "-F", "L", "c"},
    "'-F' and '--unlink' contradict each other: lockrun becomes the command and frees nothing"},
  {"kill_after_without_max_hold", {"-k5", "L", "c"}, "'-k' means nothing without '--max-hold'"},
  {"signal_without_max_hold", {"--signal=INT", "L", "c"}, "'--signal' means nothing without '--max-hold'"},
  {"max_hold_of_a_bare_descriptor", {"--max-hold=1", "9"},
    "'--max-hold' and descriptor '9' contradict each other: there is no command to be ended"},
  {"no_fork_of_a_bare_descriptor", {"-F", "9"},
    "'-F' and descriptor '9' contradict each other: there is no command to become"},
  {"descriptor_with_unlink", {"--unlink", "--fd=9", "c"},
    "'--unlink' and '--fd' contradict each other: a descriptor is open already"},
  {"unlock_of_a_path", {"-u", "/tmp/L"},
    "'-u' and '/tmp/L' contradict each other: only a descriptor can be unlocked, as in 'lockrun -u 9'"},
  {"unlock_with_a_command", {"-u", "9", "cmd"},
    "'-u' and the command 'cmd' contradict each other: nothing runs when a lock is freed"},
  {"unlock_with_a_string", {"--unlock", "9", "-c", "x"},
    "'--unlock' and the command '/bin/sh' contradict each other: nothing runs when a lock is freed"},
  {"unlock_with_fd", {"-u", "--fd=9"},
    "'-u' and '--fd' contradict each other: '--fd' is for a command; 'lockrun -u FD' unlocks a descriptor"},
  {"unlock_with_fd_and_a_command", {"-u", "--fd=9", "cmd"},
    "'-u' and the command 'cmd' contradict each other: nothing runs when a lock is freed"},
  {"range_of_flock", {"--api", "flock", "--start", "0", "L", "c"},
    "'--api flock' and '--start' contradict each other: flock(2) locks whole files"},
  {"descriptor_with_hold", {"--hold=wrapper", "9"},
    "'--hold' and descriptor '9' contradict each other: who opened a descriptor decides how long it lives"},
  {"descriptor_with_close", {"-o", "--fd=9", "cmd"},
    "'-o' and '--fd' contradict each other: who opened a descriptor decides how long it lives"},
  {"descriptor_with_mode", {"--mode=600", "9"},
    "'--mode' and descriptor '9' contradict each other: a descriptor is open already"},
  {"descriptor_with_no_create", {"--no-create", "-u", "9"},
    "'--no-create' and descriptor '9' contradict each other: a descriptor is open already"},
  {"descriptor_with_no_follow", {"--no-follow", "--fd=9", "c"},
    "'--no-follow' and '--fd' contradict each other: a descriptor is open already"},
};

class RefusedCommandLines : public testing::TestWithParam<Row> {};

TEST_P(RefusedCommandLines, NameWhatIsWrong)
{
  const Arguments arguments(GetParam().words);
  const auto options = parse_options(arguments.argc(), arguments.argv());
  ASSERT_FALSE(options.has_value()) << described(*options);
  const UsageError& error = options.error();
  EXPECT_EQ(error.text + (error.hint.empty() ? "" : " -> " + error.hint), GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(Table, RefusedCommandLines, testing::ValuesIn(k_refused),
  [](const auto& row) { return std::string(row.param.name); });

TEST(Options, CommandPointsIntoArgvAndEndsWithANullPointer)
{
  const Arguments arguments({"L", "cmd", "a"});
  const auto options = parse_options(arguments.argc(), arguments.argv());
  ASSERT_TRUE(options.has_value());
  EXPECT_EQ(options->call.command, (std::vector<char*>{arguments.argv()[2], arguments.argv()[3], nullptr}));
}

TEST(Options, ShellIsNotTakenFromTheEnvironment)
{
  const std::string before = getenv("SHELL") != nullptr ? getenv("SHELL") : "";
  ASSERT_EQ(setenv("SHELL", "/bin/false", 1), 0);
  const Arguments arguments({"L", "-c", "a"});
  const auto options = parse_options(arguments.argc(), arguments.argv());
  ASSERT_EQ(setenv("SHELL", before.c_str(), 1), 0);
  ASSERT_TRUE(options.has_value());
  EXPECT_STREQ(options->call.command.front(), "/bin/sh");
}

// Nothing in the table is there and empty.
TEST(OptionTable, EachOptionMakesADifference)
{
  for (const OptionSpec& option : option_table()) {
    const std::string name = "--" + std::string(option.names.substr(0, option.names.find(' ')));
    Words plain = {"LOCK", "cmd"};
    switch (option.id) {
    case OptionId::exclusive:
      plain = {"-s", "LOCK", "cmd"};
      break;
    case OptionId::unlock:
      plain = {"9"};
      break;
    case OptionId::command:
      plain = {"9"};
      break;
    case OptionId::shell:
      plain = {"LOCK", "-c", "x"};
      break;
    case OptionId::status:
      plain = {"9"};
      break;
    case OptionId::probe:
      continue; // what it takes means nothing without it: it has rows in the tables
    case OptionId::json:
      plain = {"--status", "LOCK"};
      break;
    case OptionId::kill_after:
    case OptionId::signal:
      plain = {"--max-hold=1", "LOCK", "cmd"};
      break;
    default:
      break;
    }
    Words words = plain;
    const auto lock = words.begin() + (words.front().starts_with('-') ? 1 : 0);
    words.insert(lock, option.value == OptionSpec::Value::none ? name : name + "=" + sample_value(option));
    const Arguments without(plain);
    const Arguments with(words);
    const auto expected = parse_options(without.argc(), without.argv());
    const auto options = parse_options(with.argc(), with.argv());
    ASSERT_TRUE(expected.has_value()) << expected.error().text;
    ASSERT_TRUE(options.has_value()) << with.text() << ": " << options.error().text;
    EXPECT_NE(described(*options), described(*expected)) << with.text();
  }
}

TEST(Help, ShowsEveryNameValueAndTopic)
{
  const std::string text = help();
  for (const OptionSpec& option : option_table()) {
    EXPECT_NE(text.find("\n" + std::string(option.topic) + ":\n"), std::string::npos) << option.topic;
    for (const char letter : option.letters) {
      EXPECT_NE(text.find(std::string("-") + letter + ", "), std::string::npos) << letter;
    }
    any_name(option.names, [&](std::string_view name) {
      EXPECT_NE(text.find("--" + std::string(name)), std::string::npos) << name;
      return false;
    });
    if (option.value_name != nullptr) {
      EXPECT_NE(text.find(" " + std::string(option.value_name)), std::string::npos) << option.value_name;
    }
  }
}

TEST(Help, EndsWithFiveExamples)
{
  const std::string text = help();
  const std::size_t start = text.find("\nExamples:\n");
  ASSERT_NE(start, std::string::npos);
  int examples = 0;
  for (std::size_t at = text.find("\n  ", start); at != std::string::npos; at = text.find("\n  ", at + 1)) {
    examples += text[at + 3] != ' ' ? 1 : 0;
  }
  EXPECT_EQ(examples, 5);
  EXPECT_EQ(text.find(":\n", start + 11), std::string::npos) << "the examples are not at the end";
  EXPECT_EQ(text.back(), '\n');
}

TEST(Help, FitsAnOrdinaryTerminal)
{
  const std::string text = help();
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = text.find('\n', start);
    EXPECT_LE(end - start, 80U) << text.substr(start, end - start);
    start = end + 1;
  }
}

// Whatever is thrown at it: an answer that keeps its promises, or one line of error.
TEST(Options, AnyCommandLineGetsAnAnswer)
{
  const std::vector<std::string> pieces = {"-", "--", "-n", "-w", "5", "-w5", "-E", "9", "-c", "L", "", "=", "--wait",
    "--wait=", "--no", "--nb=1", "--fd", "--start", "--length=3", "--api", "flock", "both", "-u", "-F", "-o", "--hold",
    "wrapper", "--mode", "777", "--shell", "-q", "\x1b", "\xff", "{}", "[a,b]", "%%", "--fcntl", "1h30m",
    "99999999999999999999", "-xsnF", "--comm", "++", "-h", "-V"};
  std::mt19937 random(20240229); // NOLINT(cert-msc51-cpp): the same command lines in every run
  const auto below = [&](
                       std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random); };
  for (int round = 0; round < 20000; ++round) {
    Words words(below(8));
    for (std::string& word : words) {
      word = pieces[below(pieces.size())];
      while (below(4) == 0) { word += pieces[below(pieces.size())]; }
      if (below(16) == 0) { word += static_cast<char>(1 + below(255)); }
    }
    const Arguments arguments(words);
    const auto options = parse_options(arguments.argc(), arguments.argv());
    if (!options) {
      ASSERT_FALSE(options.error().text.empty()) << arguments.text();
      for (const char c : options.error().text) { ASSERT_FALSE(c >= 0 && c < ' ') << arguments.text(); }
      continue;
    }
    const bool has_command = !options->call.command.empty();
    ASSERT_EQ(has_command, options->call.action == Action::run) << arguments.text();
    if (has_command) {
      ASSERT_NE(options->call.command.front(), nullptr) << arguments.text();
      ASSERT_EQ(options->call.command.back(), nullptr) << arguments.text();
    }
    const bool is_answer = options->call.action == Action::help || options->call.action == Action::version;
    ASSERT_EQ(options->call.request.fd.has_value() != !options->call.request.path.empty(), !is_answer)
      << arguments.text();
    const Range& range = options->call.request.range;
    ASSERT_TRUE(is_answer || (range.start >= 0 && range.length > 0 && range.start <= Range{}.length - range.length))
      << arguments.text();
  }
}

} // namespace
