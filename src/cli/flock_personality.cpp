#include "cli/flock_personality.hpp"

#include "cli/standard_descriptors.hpp"
#include "lock/hold.hpp"
#include "lock/lock_file.hpp"
#include "lock/place.hpp"
#include "sys/clock.hpp"
#include "sys/process.hpp"
#include "sys/program.hpp"
#include "sys/signal.hpp"

#include <lockrun/lock.hpp>
#include <lockrun/version.hpp>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <getopt.h>
#include <sysexits.h>

namespace lockrun::cli {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

// 128 + N is the shell's word for "ended by signal N".
constexpr int k_signalled = 128;
constexpr int k_write_error = EXIT_FAILURE;

// The lock file has the first free number from here on, as it has in flock(1).
constexpr int k_first_descriptor = 3;

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

// The time limit as a timer takes it.
struct TimeLimit {
  seconds whole{};
  microseconds fraction{};
};

// Everything that the command line said.
struct Call {
  std::string lock; // the path as it was written
  LockRequest request;
  bool unlocks = false;
  bool never_waits = false;
  std::optional<TimeLimit> limit;
  int conflict_exit_code = 1;
  bool closes = false;
  bool becomes_command = false;
  bool verbose = false;
  std::vector<char*> command; // ends with a null pointer; empty: there is none
};

// Success, or the exit status of a failure that has been told.
using Outcome = Result<void, int>;

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

// What is behind the digits of a size: nothing, K or KiB (1024), KB (1000), and so on with M, G, T, P, E.
std::optional<std::int64_t> multiplier(std::string_view suffix)
{
  if (suffix.empty()) { return 1; }
  constexpr std::string_view k_letters = "KMGTPEkmgtpe";
  const std::size_t letter = k_letters.find(suffix.front());
  if (letter == k_letters.npos) { return std::nullopt; }
  const std::string_view unit = suffix.substr(1);
  const bool decimal = unit == "B" || unit == "b";
  if (!decimal && !unit.empty() && unit != "iB" && unit != "ib") { return std::nullopt; }
  std::int64_t result = 1;
  for (std::size_t power = letter % 6 + 1; power > 0; --power) { result *= decimal ? 1000 : 1024; }
  return result;
}

// What the digits behind a point add. Each is rounded by itself, and not well ("1.9K" is 2048): as in flock(1), because
// whoever asks for the same size must get a lock on the same bytes.
std::int64_t fraction_of(std::string_view digits, std::int64_t unit)
{
  constexpr std::size_t k_most_digits = 17; // so that its place fits; what is behind them is nothing
  std::int64_t number = 0;
  std::int64_t place = 10;
  std::size_t zeros = 0;
  for (const char digit : digits.substr(0, k_most_digits)) {
    number = number * 10 + (digit - '0');
    if (number == 0) { ++zeros; }
  }
  while (place < number) { place *= 10; }
  for (; zeros > 0; --zeros) { place *= 10; }
  std::int64_t sum = 0;
  for (; number > 0; number /= 10, place /= 10) {
    const std::int64_t digit = number % 10;
    if (digit > 0 && place >= digit) { sum += unit / (place / digit); }
  }
  return sum;
}

Result<std::int64_t, int> read_size(const char* text, const char* complaint)
{
  char* end = nullptr;
  errno = 0;
  const std::int64_t whole = std::strtoll(text, &end, 0);
  std::string_view suffix = end;
  std::string_view digits;
  if (suffix.starts_with('.')) {
    digits = suffix.substr(1, std::strspn(end + 1, "0123456789"));
    suffix.remove_prefix(1 + digits.size());
    if (suffix.empty()) { end = nullptr; } // there are no parts of a byte
  }
  const std::int64_t factor = end == nullptr || end == text ? 0 : multiplier(suffix).value_or(0);
  const std::int64_t fraction = fraction_of(digits, factor);
  if (factor == 0 || whole < 0 || errno == ERANGE ||
      whole > (std::numeric_limits<std::int64_t>::max() - fraction) / factor) {
    return tl::unexpected(fail(EX_USAGE, complaint, text));
  }
  return whole * factor + fraction;
}

// Seconds as strtod(3) reads them, "1e3" and "inf" included. What a timer cannot be set to is found out only later, as
// in flock(1): by then the lock file has been made.
Result<TimeLimit, int> read_limit(const char* text)
{
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (end == text || *end != '\0') { return tl::unexpected(fail(EX_USAGE, "invalid timeout value", text)); }
  if (!(std::fabs(value) < 9.2e18)) { return TimeLimit{seconds(-1), {}}; }
  const double whole = std::trunc(value);
  return TimeLimit{
    seconds(static_cast<std::int64_t>(whole)), microseconds(static_cast<std::int64_t>((value - whole) * 1e6))};
}

bool is_zero(const TimeLimit& limit)
{
  return limit.whole.count() == 0 && limit.fraction.count() == 0;
}

bool is_possible(const TimeLimit& limit)
{
  return limit.whole.count() >= 0 && limit.fraction.count() >= 0;
}

// None: for ever.
std::optional<nanoseconds> patience_of(const Call& call)
{
  if (call.never_waits || (call.limit && is_zero(*call.limit))) { return nanoseconds(0); }
  if (!call.limit || static_cast<double>(call.limit->whole.count()) >= k_for_ever_seconds) { return std::nullopt; }
  return nanoseconds(call.limit->whole) + call.limit->fraction;
}

// --- The command line -----------------------------------------------------------------------------------------------

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
Outcome store(const Result<T, int>& value, U& target)
{
  if (!value) { return tl::unexpected(value.error()); }
  target = *value;
  return {};
}

Outcome note_option(int letter, Call& call)
{
  Range& range = call.request.range;
  switch (letter) {
  case 's':
    call.request.mode = Mode::shared;
    call.unlocks = false;
    break;
  case 'e':
  case 'x':
    call.request.mode = Mode::exclusive;
    call.unlocks = false;
    break;
  case 'u':
    call.unlocks = true;
    break;
  case 'n':
    call.never_waits = true;
    break;
  case 'o':
    call.closes = true;
    break;
  case 'F':
    call.becomes_command = true;
    break;
  case 'w':
    return store(read_limit(optarg), call.limit);
  case 'E':
    return store(read_conflict_exit_code(optarg), call.conflict_exit_code);
  case k_fcntl:
    call.request.api = Api::ofd;
    break;
  case k_start:
    call.request.api = Api::ofd;
    return store(read_size(optarg, "invalid as start offset"), range.start);
  case k_length:
    call.request.api = Api::ofd;
    return store(read_size(optarg, "invalid as length of lock range"), range.length);
  case k_fd:
    return store(read_descriptor(optarg), call.request.fd);
  case k_verbose:
    call.verbose = true;
    break;
  case 'V':
    std::printf("flock from lockrun %s, compatible with util-linux 2.42\n", k_version);
    return tl::unexpected(EX_OK);
  case 'h':
    (void)std::fputs(k_help, stdout);
    return tl::unexpected(EX_OK);
  default:
    return tl::unexpected(point_to_help());
  }
  return {};
}

std::vector<char*> shell_command(char* string)
{
  static char default_shell[] = "/bin/sh";
  static char dash_c[] = "-c";
  char* const shell = std::getenv("SHELL");
  return {shell == nullptr || *shell == '\0' ? default_shell : shell, dash_c, string, nullptr};
}

// `words` is what follows the lock or the options, up to and with argv's null pointer.
Outcome note_command(char** words, Call& call)
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
Outcome note_words(char** words, Call& call)
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

// --- The lock -------------------------------------------------------------------------------------------------------

int status_of_open_error(int code)
{
  switch (code) {
  case ENOMEM:
  case EMFILE:
  case ENFILE:
    return EX_OSERR;
  case EROFS:
  case ENOSPC:
    return EX_CANTCREAT;
  default:
    return EX_NOINPUT;
  }
}

std::string name_of(const Call& call)
{
  return call.request.fd ? std::to_string(*call.request.fd) : call.lock;
}

int tell_open_error(const Call& call, int code)
{
  return fail_with_code(status_of_open_error(code), "cannot open lock file " + call.lock, code);
}

int tell_lock_error(const Call& call, int code)
{
  return fail_with_code(code == ENOLCK || code == ENOMEM ? EX_OSERR : EX_DATAERR, name_of(call), code);
}

int tell_wrong_type(const Call& call, int code)
{
  // A directory cannot be opened for writing, so it gets no exclusive lock of fcntl(2).
  if (code == EISDIR) { return tell_lock_error(call, code); }
  const std::string words = "cannot open lock file " + call.lock + ": Neither a file, a directory nor a device";
  return fail(EX_NOINPUT, words.c_str());
}

int tell_harmful_device(const Call& call)
{
  const std::string words =
    "cannot open lock file " + call.lock + ": Opening a watchdog starts its countdown, and closing a tape rewinds it";
  return fail(EX_NOINPUT, words.c_str());
}

int tell(const Error& error, const Call& call)
{
  const int code = error.cause.code;
  switch (error.reason) {
  case Reason::busy:
    return call.verbose ? fail(call.conflict_exit_code, "failed to get lock") : call.conflict_exit_code;
  case Reason::timed_out:
    return call.verbose ? fail(call.conflict_exit_code, "timeout while waiting to get lock") : call.conflict_exit_code;
  case Reason::wrong_type:
    return tell_wrong_type(call, code);
  case Reason::harmful_device:
    return tell_harmful_device(call);
  case Reason::open_failed:
    return call.request.fd ? tell_lock_error(call, code) : tell_open_error(call, code);
  case Reason::start_failed:
    return fail_with_code(EX_OSERR, "cannot set up timer", code);
  default:
    return tell_lock_error(call, code);
  }
}

// Standard output was buffered: only now does it turn out whether it could be written. That nobody reads it, or that it
// was closed from the start, is no failure. On standard error there is one only if there was something to say.
int flush_output(int status)
{
  if (std::fflush(stdout) != 0 && errno != EPIPE && errno != EBADF) {
    return fail_with_code(k_write_error, "write error", errno);
  }
  return std::ferror(stderr) != 0 ? k_write_error : status;
}

// For a time limit where the kernel does not let go of who waits (an uninterruptible file system).
class WayOut final : public WaitObserver {
public:
  explicit WayOut(const Call& call) : m_call(call) {}
  bool talks() const override { return false; } // there is nothing to see
  nanoseconds look(nanoseconds) override { return std::chrono::hours(24); }
  void stuck(const Error& reason) override { sys::exit_now(flush_output(tell(reason, m_call))); }
  void end_now(const Error&) override { sys::exit_now(m_call.conflict_exit_code); }

private:
  const Call& m_call;
};

Result<Lock, Error> take_lock(const Call& call)
{
  WayOut way_out(call);
  WaitPlan plan;
  if (call.request.patience) { plan.observer = &way_out; }
  const bool is_timed = call.request.patience && *call.request.patience != nanoseconds(0);
  if (!is_timed) { return acquire(call.request, plan); }
  // There the clock is an alarm, so one from elsewhere ends neither the wait nor the process.
  const auto before = sys::set_disposition(SIGALRM, sys::Disposition::ignored);
  auto lock = acquire(call.request, plan);
  if (before) { (void)sys::set_disposition(SIGALRM, *before); }
  return lock;
}

Result<Lock, Error> open_only(const LockRequest& request)
{
  const WaitPlan plan;
  auto file = open_lock_file(request, Access::read, Patience{plan, nanoseconds(0), {}});
  if (!file) { return tl::unexpected(file.error()); }
  std::vector<Hold> holds;
  holds.push_back(Hold{std::move(file->fd), request.mode, request.api, request.range, request.path});
  return Lock(std::move(holds));
}

// A lock file that was opened just now has no lock to free, but it is made, and the command inherits it.
Result<Lock, Error> free_lock(const LockRequest& request)
{
  if (!request.fd) { return open_only(request); }
  const auto freed = unlock(request);
  if (!freed) { return tl::unexpected(freed.error()); }
  return Lock({});
}

int refuse_limit(const Call& call)
{
  if (!call.request.fd) {
    const auto file = open_only(call.request);
    if (!file) { return tell(file.error(), call); }
  }
  return fail_with_code(EX_OSERR, "cannot set up timer", EINVAL);
}

void tell_duration(nanoseconds duration)
{
  const auto whole = std::chrono::duration_cast<seconds>(duration);
  const auto rest = std::chrono::duration_cast<microseconds>(duration - whole);
  std::printf("flock: getting lock took %lld.%06lld seconds\n", static_cast<long long>(whole.count()),
    static_cast<long long>(rest.count()));
}

// --- The command ----------------------------------------------------------------------------------------------------

int tell_start_error(const char* file, const SysError& cause)
{
  if (std::string_view(cause.call) == "clone" || std::string_view(cause.call) == "mmap") {
    return fail_with_code(EX_OSERR, "fork failed", cause.code);
  }
  return fail_with_code(
    cause.code == ENOMEM ? EX_OSERR : EX_UNAVAILABLE, std::string("failed to execute ") + file, cause.code);
}

int wait_for(const sys::Launch& child, const char* file)
{
  const auto change = sys::wait_child(child.pid(), WEXITED);
  if (!change) { return fail_with_code(EXIT_FAILURE, "waitpid failed", change.error().code); }
  if (const auto failure = child.failure()) {
    const int status = tell_start_error(file, *failure);
    // There the child says it, and what is lost of that does not count.
    if (status == EX_UNAVAILABLE) { std::clearerr(stderr); }
    return status;
  }
  const bool exited = (*change)->kind == sys::ChildChange::Kind::exited;
  return exited ? (*change)->value : k_signalled + (*change)->value;
}

// The command finds the signals as we found them, except that SIGCHLD is never ignored: its status would be lost.
int run(const Call& call, const Lock& lock)
{
  std::vector<const sys::Descriptor*> inherited;
  if (!call.request.fd && !call.closes) {
    for (const Hold& hold : lock.holds()) { inherited.push_back(&hold.fd); }
  }
  if (call.request.fd && call.closes) { const sys::Descriptor closed_here(*call.request.fd); } // the lock has a copy
  (void)sys::set_disposition(SIGCHLD, sys::Disposition::standard);
  sys::Program program{call.command.front(), call.command.data(), sys::block_signals({}), false, inherited};
  program.lowest_inherited = k_first_descriptor; // scripts name it: flock -s LOCK -c 'flock -x 3'
  // What --verbose said is lost unless it went to a terminal: it is still in the buffer. As in flock(1).
  if (call.becomes_command) { sys::exit_now(tell_start_error(program.file, sys::execute(program))); }
  const auto child = sys::start(program);
  return child ? wait_for(*child, program.file) : tell_start_error(program.file, child.error());
}

int carry_out(const Call& call)
{
  if (!call.request.fd) {
    if (const auto filled = fill_standard_descriptors(); !filled) { return tell_open_error(call, filled.error().code); }
  }
  if (call.limit && !is_possible(*call.limit)) { return refuse_limit(call); }
  const nanoseconds began = call.verbose ? sys::steady_now() : nanoseconds(0);
  const auto lock = call.unlocks ? free_lock(call.request) : take_lock(call);
  if (!lock) { return tell(lock.error(), call); }
  if (call.verbose) { tell_duration(sys::steady_now() - began); }
  if (call.command.empty()) { return EX_OK; }
  if (call.verbose) { std::printf("flock: executing %s\n", call.command.front()); }
  return run(call, *lock);
}

} // namespace

bool is_called_as_flock(const char* argv0)
{
  if (argv0 == nullptr) { return false; }
  const std::string_view path(argv0);
  return path.substr(path.rfind('/') + 1) == "flock";
}

int flock_personality(int argc, char** argv)
{
  const auto call = read_command_line(argc, argv);
  return flush_output(call ? carry_out(*call) : call.error());
}

} // namespace lockrun::cli
