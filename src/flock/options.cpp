#include "flock/options.hpp"

#include "lock/place.hpp"

#include <lockrun/version.hpp>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string_view>

#include <getopt.h>
#include <sysexits.h>

namespace lockrun::flock {
namespace {

using std::chrono::nanoseconds;

// 31 years and more are for ever: 64 bits of nanoseconds end after 292.
constexpr double k_for_ever_seconds = 1e9;

constexpr const char* k_help = R"(
Usage:
 flock [options] <file or directory> <command> [<argument>...]
 flock [options] <file or directory> -c <command string>
 flock [options] <descriptor number>
 flock [options] --fd <descriptor number> <command> [<argument>...]
 flock [options] --fd <descriptor number> -c <command string>

Hold a lock while a command runs, or lock a descriptor that the shell opened.

Options:
 -x, -e, --exclusive       nobody else may hold the lock (default)
 -s, --shared              others may hold it too, if they share
 -u, --unlock              free the lock
 -n, --nb, --nonblocking   fail at once if somebody else holds it
 -w, --wait, --timeout <seconds>
                           fail if it is not ours in time
 -E, --conflict-exit-code <number>
                           the exit status of these failures (default 1)
 -o, --close               the command does not inherit the lock
 -c, --command <string>    run a string with $SHELL
 -F, --no-fork             become the command
     --fd <number>         lock this descriptor, and run a command
     --fcntl               a lock of fcntl(2), F_OFD_SETLK
     --start <offset>      its first byte (implies --fcntl)
     --length <number>     how many bytes, 0 for all (implies --fcntl)
     --verbose             tell how long it took, or why it failed
 -h, --help                this text
 -V, --version             the version

This is lockrun under the name of flock(1); see lockrun(1).
)";

enum LongOption { k_verbose = 256, k_fcntl, k_start, k_length, k_fd };

constexpr const char* k_short_options = "+sexnoFuw:E:hV?";

// In the order of flock(1): getopt_long names possible completions in this order.
constexpr ::option k_long_options[] = {
  {"shared", no_argument, nullptr, 's'},
  {"exclusive", no_argument, nullptr, 'x'},
  {"unlock", no_argument, nullptr, 'u'},
  {"nonblocking", no_argument, nullptr, 'n'},
  {"nb", no_argument, nullptr, 'n'},
  {"timeout", required_argument, nullptr, 'w'},
  {"wait", required_argument, nullptr, 'w'},
  {"conflict-exit-code", required_argument, nullptr, 'E'},
  {"close", no_argument, nullptr, 'o'},
  {"no-fork", no_argument, nullptr, 'F'},
  {"verbose", no_argument, nullptr, k_verbose},
  {"fcntl", no_argument, nullptr, k_fcntl},
  {"start", required_argument, nullptr, k_start},
  {"length", required_argument, nullptr, k_length},
  {"fd", required_argument, nullptr, k_fd},
  {"help", no_argument, nullptr, 'h'},
  {"version", no_argument, nullptr, 'V'},
  {nullptr, 0, nullptr, 0},
};

// In this file the error of a Result is the exit status of a failure that has been reported.

int point_to_help()
{
  (void)std::fputs("Try 'flock --help' for more information.\n", stderr);
  return EX_USAGE;
}

// A whole number that fits an int, as strtol(3) reads it; anything else is told.
Result<int, int> read_int(const char* text, const char* complaint)
{
  char* end = nullptr;
  errno = 0;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != '\0') { return tl::unexpected(fail(EX_USAGE, complaint, text)); }
  if (errno == ERANGE || value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max()) {
    const std::string what = std::string(complaint) + ": '" + text + "'";
    return tl::unexpected(fail_with_code(EX_USAGE, what, ERANGE));
  }
  return static_cast<int>(value);
}

// What `parse` makes of the text; what it cannot read is told.
template <class T>
Result<T, int> read(std::optional<T> (*parse)(const char*), const char* text, const char* complaint)
{
  const auto value = parse(text);
  if (!value) { return tl::unexpected(fail(EX_USAGE, complaint, text)); }
  return *value;
}

// None: for ever.
std::optional<nanoseconds> patience_of(const Call& call)
{
  if (call.never_waits || (call.limit && call.limit->is_zero())) { return nanoseconds(0); }
  if (!call.limit || static_cast<double>(call.limit->whole.count()) >= k_for_ever_seconds) { return std::nullopt; }
  return nanoseconds(call.limit->whole) + call.limit->fraction;
}

bool is_command_option(const char* word)
{
  const std::string_view text(word);
  return text == "-c" || text == "--command";
}

Result<int, int> read_conflict_exit_code(const char* text)
{
  const auto code = read_int(text, "invalid exit code");
  if (code && (*code < 0 || *code > 255)) {
    return tl::unexpected(fail(EX_USAGE, "exit code out of range (expected 0 to 255)"));
  }
  return code;
}

Result<int, int> read_descriptor(const char* text)
{
  constexpr const char* k_complaint = "bad file descriptor";
  const auto number = read_int(text, k_complaint);
  if (number && *number < 0) { return tl::unexpected(fail(EX_USAGE, k_complaint, text)); }
  return number;
}

template <class T, class U>
Result<void, int> store(const Result<T, int>& value, U& target)
{
  if (!value) { return tl::unexpected(value.error()); }
  target = *value;
  return {};
}

// Whether it is one of those that take no value and only change the call.
bool note_flag(int letter, Call& call)
{
  switch (letter) {
  case 's':
  case 'e':
  case 'x':
    call.request.mode = letter == 's' ? Mode::shared : Mode::exclusive;
    call.unlocks = false;
    return true;
  case 'u':
    call.unlocks = true;
    return true;
  case 'n':
    call.never_waits = true;
    return true;
  case 'o':
    call.closes = true;
    return true;
  case 'F':
    call.becomes_command = true;
    return true;
  case k_fcntl:
    call.request.api = Api::ofd;
    return true;
  case k_verbose:
    call.verbose = true;
    return true;
  default:
    return false;
  }
}

Result<void, int> note_option(int letter, Call& call)
{
  if (note_flag(letter, call)) { return {}; }
  switch (letter) {
  case 'w':
    return store(read(parse_limit, optarg, "invalid timeout value"), call.limit);
  case 'E':
    return store(read_conflict_exit_code(optarg), call.conflict_exit_code);
  case k_start:
    call.request.api = Api::ofd;
    return store(read(parse_size, optarg, "invalid as start offset"), call.request.range.start);
  case k_length:
    call.request.api = Api::ofd;
    return store(read(parse_size, optarg, "invalid as length of lock range"), call.request.range.length);
  case k_fd:
    return store(read_descriptor(optarg), call.request.fd);
  case 'V':
    std::printf("flock from lockrun %s, compatible with util-linux 2.42\n", k_version);
    return tl::unexpected(EX_OK);
  case 'h':
    (void)std::fputs(k_help, stdout);
    return tl::unexpected(EX_OK);
  default:
    return tl::unexpected(point_to_help());
  }
}

std::vector<char*> shell_command(char* string)
{
  static char default_shell[] = "/bin/sh";
  static char dash_c[] = "-c";
  char* const shell = std::getenv("SHELL");
  return {shell == nullptr || *shell == '\0' ? default_shell : shell, dash_c, string, nullptr};
}

// `words` is what follows the lock or the options, up to and with argv's null pointer.
Result<void, int> note_command(char** words, Call& call)
{
  if (words[0] == nullptr) { return {}; }
  if (is_command_option(words[0])) {
    if (words[1] == nullptr || words[2] != nullptr) {
      const std::string complaint = std::string(words[0]) + " requires exactly one command argument";
      return tl::unexpected(fail(EX_USAGE, complaint.c_str()));
    }
    call.command = shell_command(words[1]);
    return {};
  }
  for (; *words != nullptr; ++words) { call.command.push_back(*words); }
  call.command.push_back(nullptr);
  return {};
}

// The first word that is not an option is the lock, and with --fd it is the command.
Result<void, int> note_words(char** words, Call& call)
{
  if (call.request.fd) {
    if (words[0] == nullptr) { return tl::unexpected(fail(EX_USAGE, "missing command")); }
    return note_command(words, call);
  }
  if (words[0] == nullptr) { return tl::unexpected(fail(EX_USAGE, "requires file descriptor, file or directory")); }
  if (words[1] == nullptr) { return store(read_int(words[0], "bad file descriptor"), call.request.fd); }
  call.lock = words[0];
  call.request.path = is_name(call.lock) ? "./" + call.lock : call.lock; // here name:NAME is a file like any other
  return note_command(words + 1, call);
}

// Whether --fd may come after `words`, which are -c and its string.
bool may_name_descriptor(char** words)
{
  for (; *words != nullptr; ++words) {
    const std::string_view word(*words);
    if (word == "--fd" || word.starts_with("--fd=")) { return true; }
  }
  return false;
}

} // namespace

int fail(int status, const char* what)
{
  (void)std::fprintf(stderr, "flock: %s\n", what); // nobody is left to tell
  return status;
}

int fail(int status, const char* what, const char* which)
{
  (void)std::fprintf(stderr, "flock: %s: '%s'\n", what, which);
  return status;
}

int fail_with_code(int status, const std::string& what, int code)
{
  (void)std::fprintf(stderr, "flock: %s: %s\n", what.c_str(), std::strerror(code));
  return status;
}

Result<Call, int> read_command_line(int argc, char** argv)
{
  if (argc < 2) {
    (void)fail(EX_USAGE, "not enough arguments");
    return tl::unexpected(point_to_help());
  }
  Call call;
  call.request.range = {0, 0};        // all there is: flock(1) knows nothing of our queues above
  call.request.nested = Nested::wait; // as there, even if it is for ever
  int early_string = 0;               // where -c is, if it comes before --fd
  for (;;) {
    // -c is no option, it stands in the command's place; only with --fd is that among the options.
    if (optind < argc && is_command_option(argv[optind])) {
      if (call.request.fd) { break; }
      if (early_string == 0 && may_name_descriptor(argv + optind)) {
        early_string = optind;
        optind += 2;
        continue;
      }
    }
    const int letter = ::getopt_long(argc, argv, k_short_options, k_long_options, nullptr);
    if (letter == -1) { break; }
    const auto noted = note_option(letter, call);
    if (!noted) { return tl::unexpected(noted.error()); }
  }
  if (call.becomes_command && call.closes) {
    return tl::unexpected(fail(EX_USAGE, "the --no-fork and --close options are incompatible"));
  }
  if (early_string > 0 && (!call.request.fd || argv[optind] != nullptr)) {
    optind = early_string;
    (void)::getopt_long(argc, argv, k_short_options, k_long_options, nullptr); // complains of -c
    return tl::unexpected(point_to_help());
  }
  if (early_string > 0) {
    call.command = shell_command(argv[early_string + 1]);
  } else if (const auto noted = note_words(argv + optind, call); !noted) {
    return tl::unexpected(noted.error());
  }
  call.request.patience = patience_of(call);
  return call;
}

} // namespace lockrun::flock
