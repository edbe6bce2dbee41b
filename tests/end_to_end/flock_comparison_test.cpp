// lockrun under the name of flock, held against the machine's flock(1) over random command lines and starting states.
//
// LOCKRUN_SEED repeats a run, LOCKRUN_FLOCK_CASES makes it longer.

#include "end_to_end/flock_program.hpp"
#include "support/eventually.hpp"
#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <iterator>
#include <optional>
#include <ostream>
#include <random>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* k_machines_flock = "/usr/bin/flock";

// Without taking the status off the kernel's list.
bool has_ended(pid_t pid)
{
  ::siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

// --- A case: a starting state and a command line --------------------------------------------------------------------

enum class Holder { none, shared, exclusive };

struct Case {
  std::vector<std::string> arguments;
  Holder holder = Holder::none;
  std::string held = "file"; // by the holder
  std::string ninth;         // what descriptor 9 is: a file's name, "holder's", "pipe", or closed
  int ninth_flags = O_RDWR;
  bool has_short_limit = false; // ends by itself within moments
  bool is_unprivileged = false;
  bool prints_own_text = false; // --help and --version
  mode_t umask = 022;
  int closed = -1; // a standard descriptor
  int ignored_signal = 0;
  std::optional<std::string> shell;
};

std::ostream& operator<<(std::ostream& out, const Case& one)
{
  constexpr const char* k_holders[] = {"nobody", "a shared lock", "an exclusive lock"};
  out << "flock";
  for (const std::string& word : one.arguments) { out << " '" << word << "'"; }
  out << "\n  '" << one.held << "' is held by " << k_holders[static_cast<int>(one.holder)] << ", descriptor 9 is '"
      << one.ninth << "' with flags " << one.ninth_flags << ", unprivileged " << one.is_unprivileged << ", umask "
      << std::oct << one.umask << std::dec << ", closed descriptor " << one.closed << ", ignored signal "
      << one.ignored_signal << ", SHELL " << one.shell.value_or("unset") << "\n";
  return out;
}

class Dice {
public:
  explicit Dice(std::uint64_t seed) : m_engine(seed) {}
  std::size_t below(std::size_t limit) { return m_engine() % limit; }
  bool chance(unsigned percent) { return below(100) < percent; }
  template <class T, std::size_t N>
  const T& of(const T (&choices)[N])
  {
    return choices[below(N)];
  }

private:
  std::mt19937_64 m_engine;
};

// Not among them: prefixes that only the options newer than 2.38 make ambiguous (--s, --f, --l and longer ones).
constexpr const char* k_flags[] = {"-x", "-e", "-s", "-u", "-n", "-o", "-F", "--exclusive", "--excl", "--e", "--shared",
  "--sh", "--unlock", "--u", "--nonblock", "--nonblocking", "--non", "--nb", "--close", "--cl", "--no-fork", "--no-f",
  "--verbose", "--verb", "--verbose"};
constexpr const char* k_bundled[] = {"s", "x", "e", "n", "o", "F", "u"};
constexpr const char* k_bad_options[] = {"-q", "--bogus", "--x", "--shared=1", "--no", "--n", "--c", "--v", "-c",
  "--command", "--comm", "-", "-?", "-1", "--nb=", "--timeout", "-w", "-E", "--conflict"};
constexpr const char* k_own_texts[] = {"-h", "--help", "--he", "-V", "--version", "--vers"};
constexpr const char* k_limit_names[] = {"-w", "--wait", "--timeout", "--wai", "--tim", "--w", "--t"};
constexpr const char* k_limits[] = {"100", "1e3", "0x10", "+50", " 90", "99.5", "1e10", "123456789012.5", "100.", "0",
  "0.0", "-0", ".0000001", "-0.0000001", "1e-400", "9e18"};
// Long enough to be in the queue before they end, so that some of the cases are decided there.
constexpr const char* k_short_limits[] = {".3", "0.2", "2e-1"};
constexpr const char* k_bad_limits[] = {"abc", "", "-1", "-.5", "inf", "-inf", "nan", "1x", "1,5", ".", "1 ", "0.5.5",
  "9.3e18", "1e400", "99999999999999999999", "10s", "5m"};
constexpr const char* k_code_names[] = {"-E", "--conflict-exit-code", "--conflict", "--co"};
constexpr const char* k_codes[] = {"0", "1", "9", "75", "255", "010", " 5", "+5", "-0"};
constexpr const char* k_bad_codes[] = {
  "256", "-1", "abc", "", "1x", "0x10", "5 ", "99999999999", "99999999999999999999"};
constexpr const char* k_common_locks[] = {"file", "file", "file", "./file", "directory", "link", "absent"};
// Behind a "-", which is the lock then, they are commands: none is called as a program whose output is a matter of
// luck, as script(1) is.
constexpr const char* k_odd_locks[] = {"directory/", "absent/", "readonly", "writeonly", "secret", "dangling",
  "dangling_far", "loop", "missing/file", "file/inside", "sealed/new", "sealed/file", "", "9", "with space", "no_magic",
  "x\ny"};
constexpr const char* k_descriptors[] = {
  "9", "9", "9", "9", "9", "0", "7", "09", "+9", " 9", "9x", "abc", "file", "absent", "99999999999", "-1", "", "9 "};
constexpr const char* k_held[] = {"file", "file", "file", "directory", "readonly"};
constexpr const char* k_ninth[] = {"", "file", "file", "file", "holder's", "holder's", "directory", "pipe"};
constexpr int k_access[] = {O_RDONLY, O_WRONLY, O_RDWR};
constexpr mode_t k_umasks[] = {022, 022, 0, 077, 0277};
constexpr int k_ignored[] = {SIGCHLD, SIGPIPE, SIGTERM, SIGUSR1};
constexpr const char* k_shells[] = {"", "/bin/sh", "sh", "no-such-shell", "/bin/bash", "/bin/false"};

const Words k_commands[] = {{"true"}, {"true"}, {"false"}, {"echo", "hello", "-n", "--"}, {"sh", "-c", "exit 7"},
  {"sh", "-c", "kill -9 $$"}, {"sh", "-c", "kill -TERM $$"}, {"sh", "-c", "echo out; echo err >&2; exit 1"},
  {"./no_magic"}, {"./shebang", "a b"}, {"./not_executable"}, {"./directory"}, {"no-such-command"}, {""},
  {"--", "true"}, {"-n", "true"}, {"-c", "echo $0 $1; exit 3"}, {"-c", "true"}, {"--command", "echo x"},
  {"--command", "kill -INT $$"}, {"-c"}, {"-c", "a", "b"}, {"--command"}, {"--comm", "x"}, {"-c", ""}, {"-cfalse"},
  {"grep", "Sig[BI]", "/proc/self/status"}, {"sh", "-c", "umask; ls"}, {"sh", "-c", "[ -e /proc/self/fd/9 ]"},
  // These leave somebody behind who has inherited the lock, or not.
  {"sh", "-c", "cat <&8 >/dev/null 2>&1 & echo left"}, {"sh", "-c", "cat <&8 >/dev/null 2>&1 & exit 5"}};

void add_valued(Dice& dice, Words& words, const std::string& name, const std::string& value)
{
  if (dice.chance(50)) {
    words.push_back(name + (name.size() > 2 ? "=" : "") + value);
  } else {
    words.push_back(name);
    words.push_back(value);
  }
}

void add_bundle(Dice& dice, Case& one)
{
  std::string bundle = "-";
  for (std::size_t left = dice.below(3) + 1; left > 0; --left) { bundle += dice.of(k_bundled); }
  if (dice.chance(10)) {
    bundle += "E7";
  } else if (dice.chance(20)) {
    bundle += "w100";
    one.has_short_limit = false;
  }
  one.arguments.push_back(bundle);
}

void add_limit(Dice& dice, Case& one)
{
  one.has_short_limit = dice.chance(20);
  const char* value = one.has_short_limit ? dice.of(k_short_limits) : dice.of(k_limits);
  if (dice.chance(10)) { value = dice.of(k_bad_limits); }
  add_valued(dice, one.arguments, dice.of(k_limit_names), value);
}

void add_option(Dice& dice, Case& one)
{
  Words& words = one.arguments;
  const std::size_t kind = dice.below(100);
  if (kind < 50) {
    words.push_back(dice.of(k_flags));
  } else if (kind < 62) {
    add_bundle(dice, one);
  } else if (kind < 85) {
    add_limit(dice, one);
  } else if (kind < 95) {
    add_valued(dice, words, dice.of(k_code_names), dice.chance(85) ? dice.of(k_codes) : dice.of(k_bad_codes));
  } else if (kind < 98) {
    words.push_back(dice.of(k_bad_options));
  } else {
    words.push_back(dice.of(k_own_texts));
    one.prints_own_text = true;
  }
}

void add_lock_and_command(Dice& dice, Words& words)
{
  if (dice.chance(10)) { words.push_back("--"); }
  if (dice.chance(30)) {
    words.push_back(dice.of(k_descriptors));
  } else if (dice.chance(97)) {
    words.push_back(dice.chance(70) ? dice.of(k_common_locks) : dice.of(k_odd_locks));
    const Words& command = dice.of(k_commands);
    words.insert(words.end(), command.begin(), command.end());
  }
}

Case random_case(Dice& dice)
{
  Case one;
  for (std::size_t left = dice.below(4); left > 0; --left) { add_option(dice, one); }
  add_lock_and_command(dice, one.arguments);
  if (dice.chance(45)) { one.holder = dice.chance(50) ? Holder::shared : Holder::exclusive; }
  one.held = dice.of(k_held);
  one.ninth = dice.of(k_ninth);
  one.ninth_flags = dice.of(k_access);
  one.is_unprivileged = ::geteuid() == 0 && dice.chance(25);
  one.umask = dice.of(k_umasks);
  // Then flock(1) has the lock on that descriptor, and whoever redirects it in the background gives the lock up.
  const bool leaves_somebody = !one.arguments.empty() && one.arguments.back().find("<&8") != std::string::npos;
  if (!leaves_somebody && dice.chance(6)) { one.closed = static_cast<int>(dice.below(3)); }
  if (dice.chance(15)) { one.ignored_signal = dice.of(k_ignored); }
  if (dice.chance(70)) { one.shell = dice.of(k_shells); }
  return one;
}

// --- One side: a program in its own copy of the starting state -------------------------------------------------------

// All that a caller can notice. Every word on standard error counts; on standard output only the measured time and the
// texts of --help and --version do not.
struct Observation {
  WaitStatus status;
  std::string out;
  std::string err;
  bool blocked = false;
  bool neither = false; // ended nor blocked for so long that it was killed
  Words files;          // afterwards: name, type and permissions, owner, size, and who could lock it
  friend bool operator==(const Observation&, const Observation&) = default;
};

std::ostream& operator<<(std::ostream& out, const Observation& seen)
{
  out << seen.status << (seen.blocked ? ", after it was blocked" : "")
      << (seen.neither ? ", having neither ended nor blocked" : "") << "\n  out: '" << seen.out << "'\n  err: '"
      << seen.err << "'\n ";
  for (const std::string& file : seen.files) { out << " [" << file << "]"; }
  return out << "\n";
}

// Who could lock it now: the program's descendants and descriptor 9 may hold it.
const char* lock_state(const fs::path& path)
{
  const Opened probe(path, O_RDONLY);
  if (::flock(probe.get(), LOCK_EX | LOCK_NB) == 0) { return "free"; }
  return ::flock(probe.get(), LOCK_SH | LOCK_NB) == 0 ? "shared" : "exclusive";
}

Words files_in(const fs::path& directory)
{
  Words lines;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory)) {
    struct ::stat status {};
    EXPECT_EQ(::lstat(entry.path().c_str(), &status), 0);
    std::ostringstream line;
    line << entry.path().lexically_relative(directory).string() << " " << std::oct << status.st_mode << std::dec << " "
         << status.st_uid;
    if (S_ISREG(status.st_mode)) { line << " " << status.st_size; }
    if (!S_ISLNK(status.st_mode)) { line << " " << lock_state(entry.path()); }
    lines.push_back(line.str());
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

class Side {
public:
  explicit Side(const Case& one) : m_case(one)
  {
    make_files();
    if (one.holder != Holder::none) {
      m_holder = Opened(m_directory / one.held, O_RDONLY);
      EXPECT_EQ(::flock(m_holder.get(), (one.holder == Holder::shared ? LOCK_SH : LOCK_EX) | LOCK_NB), 0);
    }
    m_ninth = open_ninth();
  }

  Process begin(const std::function<void(Start&)>& search) const
  {
    Start start;
    start.directory = m_directory.path();
    start.environment = {{"SHELL", m_case.shell}, {"LC_ALL", "C"}};
    start.descriptors[8] = m_gate.read_end();
    if (m_ninth.get() >= 0) { start.descriptors[9] = m_ninth.get(); }
    start.in = m_case.closed == 0 ? k_closed : to_file(m_directory / "file"); // both sides' /dev/null is the same file
    if (m_case.closed == 1) { start.out = k_closed; }
    if (m_case.closed == 2) { start.err = k_closed; }
    start.before_exec.push_back(hostile::umask(m_case.umask));
    if (m_case.ignored_signal != 0) { start.before_exec.push_back(hostile::ignore(m_case.ignored_signal)); }
    if (m_case.is_unprivileged) { start.before_exec.push_back(hostile::become_user(k_nobody)); }
    search(start);
    return Process(flock_argv(m_case.arguments), start);
  }

  // Stays until the program has ended; when it queues behind the holder, that gives way.
  Observation end(Process& process)
  {
    Observation seen;
    seen.neither = !m_case.has_short_limit && !eventually([&] {
      seen.blocked = waits_for_lock(process.pid());
      return seen.blocked || has_ended(process.pid());
    });
    if (seen.neither) { process.signal(SIGKILL); }
    if (seen.blocked) { ::flock(m_holder.get(), LOCK_UN); }
    const Finished finished = process.wait();
    seen.status = finished.status;
    static const std::regex k_duration("took [0-9]+\\.[0-9]{6} seconds");
    seen.out = m_case.prints_own_text ? "" : std::regex_replace(finished.out, k_duration, "took N seconds");
    seen.err = finished.err;
    m_holder.close();
    seen.files = files_in(m_directory.path());
    m_gate.open();
    return seen;
  }

private:
  void make_files() const
  {
    ::chmod(m_directory.path().c_str(), 0777);
    fs::create_directory(m_directory / "directory");
    fs::create_directory(m_directory / "sealed");
    write_file(m_directory / "sealed/file", "", 0644);
    ::chmod((m_directory / "sealed").c_str(), 0555);
    write_file(m_directory / "file", "data\n", 0644);
    write_file(m_directory / "readonly", "", 0444);
    write_file(m_directory / "writeonly", "", 0222);
    write_file(m_directory / "secret", "", 0000);
    write_file(m_directory / "not_executable", "", 0644);
    write_file(m_directory / "no_magic", "echo script\n", 0755);
    write_file(m_directory / "shebang", "#!/bin/sh\necho $# \"$1\"\n", 0755);
    fs::create_symlink("file", m_directory / "link");
    fs::create_symlink("made", m_directory / "dangling");
    fs::create_symlink("no/where", m_directory / "dangling_far");
    fs::create_symlink("loop", m_directory / "loop");
  }

  Opened open_ninth() const
  {
    if (m_case.ninth.empty()) { return Opened(); }
    if (m_case.ninth == "holder's") { return Opened(::fcntl(m_holder.get(), F_DUPFD_CLOEXEC, 3)); }
    if (m_case.ninth == "pipe") { return Opened(::fcntl(m_gate.read_end(), F_DUPFD_CLOEXEC, 3)); }
    const bool is_directory = m_case.ninth == "directory";
    return Opened(m_directory / m_case.ninth, is_directory ? O_RDONLY : m_case.ninth_flags);
  }

  const Case& m_case;
  TempDir m_directory;
  Opened m_holder;
  Gate m_gate; // those who were left behind end when it opens
  Opened m_ninth;
};

std::uint64_t number_from_environment(const char* name, std::uint64_t otherwise)
{
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

struct Comparison {
  Observation theirs;
  Observation ours;
  bool is_equal() const { return ours == theirs && !theirs.neither; }
};

std::ostream& operator<<(std::ostream& out, const Comparison& comparison)
{
  return out << "flock(1): " << comparison.theirs << "lockrun:  " << comparison.ours;
}

Comparison compare(const Case& one)
{
  Side theirs(one);
  Side ours(one);
  Process their_process = theirs.begin([](Start& start) {
    start.environment["PATH"] = k_search_path;
    start.before_exec.push_back([] { ::setenv("PATH", k_search_path, 1); });
  });
  Process our_process = ours.begin(search_ours);
  Comparison result;
  result.theirs = theirs.end(their_process);
  result.ours = ours.end(our_process);
  return result;
}

// A busy machine has no room for a process, or no time. Nothing else is a matter of luck: who runs at all, least.
bool lacked_something(const Observation& seen)
{
  constexpr const char* k_words[] = {"Resource temporarily unavailable", "Cannot allocate memory", "Cannot fork"};
  return seen.neither || std::any_of(std::begin(k_words), std::end(k_words),
                           [&](const char* words) { return seen.err.find(words) != std::string::npos; });
}

TEST(FlockPersonality, DoesWhatTheMachinesFlockDoes)
{
  if (::access(k_machines_flock, X_OK) != 0) {
    GTEST_SKIP() << "there is no " << k_machines_flock << " to compare with";
  }
  if (has_thread_sanitizer(lockrun_binary())) { GTEST_SKIP() << "ThreadSanitizer writes out what flock(1) loses"; }
  const std::uint64_t seed = number_from_environment("LOCKRUN_SEED", std::random_device{}());
  const std::uint64_t count = number_from_environment("LOCKRUN_FLOCK_CASES", 400);
  Dice dice(seed);
  std::uint64_t blocked = 0;
  std::uint64_t succeeded = 0;
  for (std::uint64_t number = 0; number < count && !HasFailure(); ++number) {
    const Case one = random_case(dice);
    Comparison result = compare(one);
    if (!result.is_equal() && (lacked_something(result.theirs) || lacked_something(result.ours))) {
      std::cout << "once more: case " << number << " of LOCKRUN_SEED=" << seed << ": " << one << result << std::endl;
      result = compare(one);
    }
    EXPECT_TRUE(result.is_equal()) << "case " << number << " of LOCKRUN_SEED=" << seed << ": " << one << result;
    blocked += result.theirs.blocked ? 1 : 0;
    succeeded += result.theirs.status == exited(0) ? 1 : 0;
  }
  std::cout << "LOCKRUN_SEED=" << seed << ": " << count << " cases, " << blocked << " blocked, " << succeeded
            << " succeeded" << std::endl;
  if (count >= 400 && !HasFailure()) { // dice that only ever show bad options compare little
    EXPECT_GT(blocked, count / 200);   // one in 18 does, and chance alone must not bring us there
    EXPECT_GT(succeeded, count / 10);
  }
}

} // namespace
} // namespace lockrun::testing
