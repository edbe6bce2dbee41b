// lockrun under the name of flock: held against the machine's flock(1) over random command lines and starting states,
// and table by table where that one is too old or where lockrun means to differ.
//
// LOCKRUN_SEED repeats a run, LOCKRUN_FLOCK_CASES makes it longer.

#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <random>
#include <regex>
#include <sstream>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* k_machines_flock = "/usr/bin/flock";
constexpr const char* k_search_path = "/usr/bin:/bin";

// A directory with a link called flock to a copy of our program, where other users can reach it, too.
const fs::path& our_directory()
{
  static const TempDir directory;
  static const bool made = [] {
    fs::copy_file(lockrun_binary(), directory / "lockrun");
    fs::create_symlink("lockrun", directory / "flock");
    return true;
  }();
  (void)made;
  return directory.path();
}

// The word "flock" means ours for the process that is started, but not for its command.
void search_ours(Start& start)
{
  start.environment["PATH"] = k_search_path;
  start.before_exec.push_back(
    [path = our_directory().string() + ":" + k_search_path] { ::setenv("PATH", path.c_str(), 1); });
}

std::vector<std::string> flock_argv(const std::vector<std::string>& arguments)
{
  std::vector<std::string> argv{"flock"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

Process start_ours(const std::vector<std::string>& arguments, Start start = {})
{
  search_ours(start);
  return Process(flock_argv(arguments), start);
}

Finished run_ours(const std::vector<std::string>& arguments, const Start& start = {})
{
  return start_ours(arguments, start).wait();
}

// Without taking the status off the kernel's list.
bool has_ended(pid_t pid)
{
  ::siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

// "1: -> FLOCK  ADVISORY  WRITE 4312 08:01:1311 0 EOF": found by pid, because device numbers are not stat's everywhere.
bool waits_for_lock(pid_t pid)
{
  std::ifstream locks("/proc/locks");
  const std::string wanted = std::to_string(pid);
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number, arrow, api, kind, mode, waiter;
    if (words >> number >> arrow >> api >> kind >> mode >> waiter && arrow == "->" && waiter == wanted) { return true; }
  }
  return false;
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

using Words = std::vector<std::string>;
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

// A descriptor of the test's.
class Opened {
public:
  explicit Opened(int fd = -1) : m_fd(fd) {}
  Opened(const fs::path& path, int flags) : m_fd(::open(path.c_str(), flags | O_CLOEXEC)) {}
  Opened(Opened&& other) noexcept : m_fd(std::exchange(other.m_fd, -1)) {}
  Opened& operator=(Opened&& other) noexcept
  {
    std::swap(m_fd, other.m_fd);
    return *this;
  }
  ~Opened() { close(); }
  void close()
  {
    if (m_fd >= 0) { ::close(std::exchange(m_fd, -1)); }
  }
  int get() const noexcept { return m_fd; }

private:
  int m_fd;
};

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

// --- What 2.38 does not have -----------------------------------------------------------------------------------------

// Tells that it runs, and does so until its standard input is closed.
const Words k_stay = {"sh", "-c", "echo in; read -r line"};

Words with_command(Words words, const Words& command)
{
  words.insert(words.end(), command.begin(), command.end());
  return words;
}

Start talking()
{
  Start start;
  start.in = k_pipe;
  start.out = k_pipe;
  return start;
}

TEST(FlockPersonality, FcntlLocksAndFlockLocksDoNotSeeEachOther)
{
  const TempDir directory;
  const std::string file = write_file(directory / "file", "");
  {
    const HeldLock held(file, Mode::shared, LockKind::ofd, {0, 0});
    EXPECT_EQ(run_ours({"-n", file, "true"}).status, exited(0));
    EXPECT_EQ(run_ours({"-n", "--fcntl", file, "true"}).status, exited(1));
    EXPECT_EQ(run_ours({"-nE9", "--fcntl", file, "true"}).status, exited(9));
    EXPECT_EQ(run_ours({"-ns", "--fcntl", file, "true"}).status, exited(0));
  }
  const HeldLock held(file);
  EXPECT_EQ(run_ours({"-n", file, "true"}).status, exited(1));
  EXPECT_EQ(run_ours({"-n", "--fcntl", file, "true"}).status, exited(0));
}

TEST(FlockPersonality, QueuesForAFcntlLock)
{
  const TempDir directory;
  const std::string file = write_file(directory / "file", "");
  HeldLock held(file, Mode::exclusive, LockKind::ofd, {5, 1});
  Process waiting = start_ours({"--fcntl", "--verbose", file, "echo", "hello"});
  ASSERT_TRUE(eventually([&] { return kernel_waiters(file) == 1; })); // without a pid
  held.release();
  const Finished finished = waiting.wait();
  EXPECT_EQ(finished.status, exited(0));
  EXPECT_THAT(finished.out, StartsWith("hello\nflock: getting lock took "));
}

struct RangeRow {
  const char* name;
  Words options;
  std::int64_t first;
  std::int64_t last; // -1: to the end of all files
};
const RangeRow k_ranges[] = {
  {"fcntl_is_all", {"--fcntl"}, 0, -1},
  {"start_alone_goes_to_the_end", {"--start", "100"}, 100, -1},
  {"length_alone_begins_at_0", {"--length=10"}, 0, 9},
  {"both", {"--start", "100", "--length", "10"}, 100, 109},
  {"order_does_not_matter", {"--length", "10", "--fcntl", "--start", "100"}, 100, 109},
  {"zero_length_is_all", {"--start", "7", "--length", "0"}, 7, -1},
  {"hexadecimal", {"--start", "0x10", "--length", "0x1K"}, 16, 16 + 1023},
  {"binary_units", {"--start", "1K", "--length", "2KiB"}, 1024, 1024 + 2047},
  {"decimal_units", {"--start", "1MB", "--length", "1kb"}, 1000000, 1000999},
  {"large", {"--start", "1T", "--length", "1G"}, std::int64_t{1} << 40, (std::int64_t{1} << 40) + (1 << 30) - 1},
  {"the_last_one_counts", {"--start", "5", "--start", "6", "--length", "1"}, 6, 6},
  {"prefixes", {"--sta", "5", "--len", "1"}, 5, 5},
  {"halves", {"--start", "1.5K", "--length", "0.5KiB"}, 1536, 1536 + 511},
  {"halves_in_decimal_units", {"--start", "1.5KB", "--length", "0.05MB"}, 1500, 1500 + 49999},
  {"no_digit_behind_the_point", {"--start", "1.K", "--length", "2.00K"}, 1024, 1024 + 2047},
  {"fractions_as_they_are_rounded_there", {"--start", "1.25G", "--length", "1.9K"}, 1342177279, 1342177279 + 2047},
  {"fractions_of_many_digits", {"--start", "0.5000000000000000001K", "--length", "1"}, 512, 512},
};
class FlockRanges : public ::testing::TestWithParam<RangeRow> {};

TEST_P(FlockRanges, LockTheseBytesAndNoOthers)
{
  const RangeRow& row = GetParam();
  const TempDir directory;
  const std::string file = write_file(directory / "file", "");
  Process process = start_ours(with_command(with_command(row.options, {file}), k_stay), talking());
  ASSERT_EQ(process.out_line(), "in");
  const auto is_byte_free = [&](std::int64_t byte) { return is_free(file, Mode::exclusive, LockKind::ofd, {byte, 1}); };
  EXPECT_FALSE(is_byte_free(row.first));
  if (row.first > 0) { EXPECT_TRUE(is_byte_free(row.first - 1)); }
  if (row.last >= 0) {
    EXPECT_FALSE(is_byte_free(row.last));
    EXPECT_TRUE(is_byte_free(row.last + 1));
  } else {
    EXPECT_FALSE(is_byte_free(std::int64_t{1} << 62));
  }
  EXPECT_TRUE(is_free(file)); // no lock of flock(2)
  process.close_input();
  EXPECT_EQ(process.wait().status, exited(1)); // of `read`, at the end of its input
}
INSTANTIATE_TEST_SUITE_P(
  Table, FlockRanges, ::testing::ValuesIn(k_ranges), [](const auto& row) { return row.param.name; });

struct RefusedRow {
  const char* name;
  Words arguments; // with a command "touch ran"
  int status;
  const char* words;
};
const RefusedRow k_refused[] = {
  {"start_with_letters", {"--start", "10x", "file"}, 64, "flock: invalid as start offset: '10x'\n"},
  {"start_empty", {"--start", "", "file"}, 64, "flock: invalid as start offset: ''\n"},
  {"start_negative", {"--start", "-1", "file"}, 64, "flock: invalid as start offset: '-1'\n"},
  {"start_beyond_all_files", {"--start", "8E", "file"}, 64, "flock: invalid as start offset: '8E'\n"},
  {"start_of_too_many_digits", {"--start", "99999999999999999999", "file"}, 64,
    "flock: invalid as start offset: '99999999999999999999'\n"},
  {"start_with_part_of_a_byte", {"--start", "1.5", "file"}, 64, "flock: invalid as start offset: '1.5'\n"},
  {"start_with_a_point_and_nothing_else", {"--start", "1.", "file"}, 64, "flock: invalid as start offset: '1.'\n"},
  {"start_of_a_point_and_a_unit", {"--start", ".5K", "file"}, 64, "flock: invalid as start offset: '.5K'\n"},
  {"start_with_two_points", {"--start", "1.5.5K", "file"}, 64, "flock: invalid as start offset: '1.5.5K'\n"},
  {"start_beyond_all_files_by_its_fraction", {"--start", "7.9E", "file"}, 64,
    "flock: invalid as start offset: '7.9E'\n"},
  {"length_in_unknown_units", {"--length", "1KX", "file"}, 64, "flock: invalid as length of lock range: '1KX'\n"},
  {"length_missing", {"--length"}, 64, "flock: invalid as length of lock range: 'touch'\n"},
  {"range_beyond_all_files", {"--start", "7E", "--length", "7E", "file"}, 65,
    "flock: file: Value too large for defined data type\n"},
  {"fcntl_on_a_directory", {"--fcntl", "directory"}, 65, "flock: directory: Is a directory\n"},
  {"fcntl_on_a_missing_directory", {"--fcntl", "missing/"}, 66,
    "flock: cannot open lock file missing/: No such file or directory\n"},
  {"fd_that_is_no_number", {"--fd", "nine"}, 64, "flock: bad file descriptor: 'nine'\n"},
  {"fd_too_large", {"--fd=99999999999"}, 64,
    "flock: bad file descriptor: '99999999999': Numerical result out of range\n"},
  {"fd_that_is_closed", {"--fd", "7"}, 65, "flock: 7: Bad file descriptor\n"},
  {"fcntl_on_a_descriptor_for_reading", {"--fcntl", "--fd", "9"}, 65, "flock: 9: Bad file descriptor\n"},
  {"ambiguous_since_start", {"--s", "file"}, 64,
    "flock: option '--s' is ambiguous; possibilities: '--shared' '--start'\n"
    "Try 'flock --help' for more information.\n"},
  {"ambiguous_since_fd", {"--f", "file"}, 64,
    "flock: option '--f' is ambiguous; possibilities: '--fcntl' '--fd'\n"
    "Try 'flock --help' for more information.\n"},
  {"fd_that_is_negative", {"--fd", "-1"}, 64, "flock: bad file descriptor: '-1'\n"},
  {"string_before_fd_and_a_command", {"-c", "true", "--fd", "9"}, 64,
    "flock: invalid option -- 'c'\nTry 'flock --help' for more information.\n"},
  {"string_without_fd", {"-c", "true", "file"}, 64,
    "flock: invalid option -- 'c'\nTry 'flock --help' for more information.\n"},
  {"socket", {"socket"}, 66, "flock: cannot open lock file socket: Neither a file, a directory nor a device\n"},
  // flock(1) would wait until somebody writes.
  {"fifo", {"fifo"}, 66, "flock: cannot open lock file fifo: Neither a file, a directory nor a device\n"},
};
class FlockRefusals : public ::testing::TestWithParam<RefusedRow> {};

TEST_P(FlockRefusals, SayWhyAndRunNothing)
{
  const RefusedRow& row = GetParam();
  const TempDir directory;
  write_file(directory / "file", "");
  fs::create_directory(directory / "directory");
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0666), 0);
  ASSERT_EQ(::mknod((directory / "socket").c_str(), S_IFSOCK | 0666, 0), 0);
  const Opened reading(directory / "file", O_RDONLY);
  Start start;
  start.directory = directory.path();
  start.descriptors[9] = reading.get();
  start.environment["LC_ALL"] = "C";
  const Finished finished = run_ours(with_command(row.arguments, {"touch", "ran"}), start);
  EXPECT_EQ(finished.status, exited(row.status));
  EXPECT_EQ(finished.err, row.words);
  EXPECT_EQ(finished.out, "");
  EXPECT_FALSE(fs::exists(directory / "ran"));
}
INSTANTIATE_TEST_SUITE_P(
  Table, FlockRefusals, ::testing::ValuesIn(k_refused), [](const auto& row) { return row.param.name; });

TEST(FlockPersonality, LocksADescriptorAroundACommandAndLeavesItLocked)
{
  const TempDir directory;
  const std::string file = write_file(directory / "file", "");
  const Opened ninth(file, O_RDONLY);
  Start start;
  start.descriptors[9] = ninth.get();
  const Finished finished = run_ours({"--fd", "9", "sh", "-c", "[ -e /proc/self/fd/9 ] && echo $0", "word"}, start);
  EXPECT_EQ(finished.status, exited(0));
  EXPECT_EQ(finished.out, "word\n");
  EXPECT_FALSE(is_free(file)); // it belongs to the descriptor, which is still open here
  EXPECT_EQ(run_ours({"-n", file, "true"}).status, exited(1));
  EXPECT_EQ(run_ours({"-u", "--fd=9", "true"}, start).status, exited(0));
  EXPECT_TRUE(is_free(file));
}

TEST(FlockPersonality, LocksADescriptorAroundAStringForTheShell)
{
  const TempDir directory;
  const Opened ninth(write_file(directory / "file", ""), O_RDONLY);
  Start start;
  start.descriptors[9] = ninth.get();
  start.environment["SHELL"] = "/bin/sh";
  EXPECT_EQ(run_ours({"--fd", "9", "-n", "-c", "echo $0; exit 3"}, start).out, "/bin/sh\n");
  EXPECT_EQ(run_ours({"--fd", "9", "--command", "exit 3"}, start).status, exited(3));
  EXPECT_EQ(run_ours({"-n", "-c", "exit 3", "-w", "5", "--fd", "9"}, start).status, exited(3));
  EXPECT_EQ(run_ours({"--command", "exit 3", "--fd=9"}, start).status, exited(3));
  EXPECT_EQ(run_ours({"-c", "exit 3", "--fd", "9", "-c", "exit 4"}, start).status, exited(64));
  EXPECT_EQ(run_ours({"-c", "exit 3", "--fd"}, start).status, exited(64));
  EXPECT_EQ(run_ours({"--fd", "9", "-c"}, start).status, exited(64));
  EXPECT_EQ(run_ours({"--fd", "9", "-c", "a", "b"}, start).status, exited(64));
}

TEST(FlockPersonality, LocksADescriptorWithoutACommand)
{
  const TempDir directory;
  const std::string file = write_file(directory / "file", "");
  const Opened ninth(file, O_RDWR);
  Start start;
  start.descriptors[9] = ninth.get();
  for (const Words& options : {Words{"--fd", "9"}, {"-u", "--fd=9"}, {"-sn", "--fd", "9"}}) {
    const Finished refused = run_ours(options, start);
    EXPECT_EQ(refused.status, exited(64));
    EXPECT_EQ(refused.err, "flock: missing command\n");
    EXPECT_TRUE(is_free(file));
  }
  EXPECT_EQ(run_ours({"9"}, start).status, exited(0));
  EXPECT_FALSE(is_free(file));
  EXPECT_EQ(run_ours({"--start", "3", "--length", "1", "9"}, start).status, exited(0));
  EXPECT_FALSE(is_free(file, Mode::exclusive, LockKind::ofd, {3, 1}));
  EXPECT_EQ(run_ours({"-u", "--fcntl", "9"}, start).status, exited(0));
  EXPECT_TRUE(is_free(file, Mode::exclusive, LockKind::ofd, {3, 1}));
  EXPECT_FALSE(is_free(file));
}

TEST(FlockPersonality, ClosesADescriptorInTheCommand)
{
  const TempDir directory;
  const Opened ninth(write_file(directory / "file", ""), O_RDONLY);
  Start start;
  start.descriptors[9] = ninth.get();
  EXPECT_EQ(run_ours({"-o", "--fd", "9", "sh", "-c", "[ ! -e /proc/self/fd/9 ]"}, start).status, exited(0));
}

TEST(FlockPersonality, NamesItselfAndTheVersionThatItIsCompatibleWith)
{
  const Finished version = run_ours({"--version"});
  EXPECT_EQ(version.status, exited(0));
  EXPECT_THAT(version.out, ::testing::MatchesRegex("flock from lockrun [0-9.]+, compatible with util-linux [0-9.]+\n"));
  const Finished help = run_ours({"--help"});
  EXPECT_EQ(help.status, exited(0));
  for (const char* option : {"--fcntl", "--start", "--length", "--fd", "--conflict-exit-code", "--verbose"}) {
    EXPECT_THAT(help.out, HasSubstr(option));
  }
}

// As in flock(1), where scripts name it.
TEST(FlockPersonality, GivesTheCommandTheFirstFreeDescriptorFrom3On)
{
  const TempDir directory;
  const std::string file = directory / "file";
  for (const Words& how : {Words{}, Words{"-F"}, Words{"--fcntl"}}) {
    Words options = how;
    options.insert(options.end(), {file, "sh", "-c", "readlink /proc/self/fd/3"});
    EXPECT_EQ(run_ours(options).out, file + "\n");
  }
  EXPECT_EQ(run_ours({"-sF", file, "sh", "-c", "flock -n -x 3 && exit 7"}).status, exited(7));
  const Opened third("/dev/null", O_RDONLY);
  Start start;
  start.descriptors[3] = third.get();
  EXPECT_EQ(run_ours({file, "sh", "-c", "readlink /proc/self/fd/4"}, start).out, file + "\n");
}

TEST(FlockPersonality, WaitsOutItsTimeWhateverAlarmsThereAre)
{
  const TempDir directory;
  const std::string file = directory / "file";
  HeldLock holder(file, Mode::exclusive);
  Process waiter = start_ours({"-w", "3600", file, "sh", "-c", "kill -ALRM $$; echo survived"}, talking());
  ASSERT_TRUE(eventually([&] { return kernel_waiters(file) == 1; }));
  for (int i = 0; i < 5; ++i) { waiter.signal(SIGALRM); }
  EXPECT_EQ(kernel_waiters(file), 1);
  holder.release();
  EXPECT_EQ(waiter.out_line(), std::nullopt); // the command has the alarm as it was: it dies of it
  EXPECT_EQ(waiter.wait().status, exited(128 + SIGALRM));
}

TEST(FlockPersonality, LocksDevices)
{
  EXPECT_EQ(run_ours({"-s", "/dev/null", "true"}).status, exited(0));
  EXPECT_EQ(run_ours({"--fcntl", "/dev/zero", "true"}).status, exited(0));
}

// --- Where lockrun is safer ------------------------------------------------------------------------------------------

TEST(FlockPersonality, NeverLocksOnAStandardDescriptor)
{
  const TempDir directory;
  Start start;
  start.in = k_closed;
  start.err = k_closed;
  EXPECT_EQ(
    run_ours({directory / "file", "sh", "-c", "[ ! -e /proc/self/fd/0 ] && [ ! -e /proc/self/fd/2 ]"}, start).status,
    exited(0));
}

TEST(FlockPersonality, LocksNothingByTheNameOfAClosedDescriptor)
{
  for (const char* name : {"/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}) {
    Start start;
    start.in = k_closed;
    const Finished finished = run_ours({"-n", name, "echo", "ran"}, start);
    EXPECT_EQ(finished.status, exited(66));
    EXPECT_EQ(finished.out, "");
    EXPECT_THAT(finished.err, StartsWith("flock: cannot open lock file "));
  }
}

TEST(FlockPersonality, EndsInTimeWhateverTheParentBlocksAndIgnores)
{
  const TempDir directory;
  const HeldLock held(directory / "file");
  for (const auto& hook : {hostile::block(SIGALRM), hostile::ignore(SIGALRM), hostile::block(SIGCHLD),
         hostile::ignore(SIGCHLD), hostile::limit(RLIMIT_SIGPENDING, 0)}) {
    Start start;
    start.before_exec.push_back(hook);
    const Finished finished = run_ours({"--verbose", "-w", ".02", "-E", "5", directory / "file", "true"}, start);
    EXPECT_EQ(finished.status, exited(5));
    EXPECT_EQ(finished.err, "flock: timeout while waiting to get lock\n");
  }
}

TEST(FlockPersonality, GoesOnWithWhatItIsGrantedAlsoWhereTheKernelQueuesNoSignals)
{
  const TempDir directory;
  const fs::path file = directory / "file";
  HeldLock held(file);
  Start start;
  start.before_exec = {hostile::limit(RLIMIT_SIGPENDING, 0)};
  Process process = start_ours({"-w", "1000", file, "echo", "ran"}, start);
  ASSERT_TRUE(eventually([&] { return waits_for_lock(process.pid()); }));
  held.release();
  EXPECT_EQ(process.wait().out, "ran\n");
}

// A waiter that a debugger has stopped looks to its helper thread as one that the kernel does not let go.
TEST(FlockPersonality, EndsInTimeAlsoWhenTheKernelDoesNotLetItGo)
{
  const TempDir directory;
  const HeldLock held(directory / "file");
  Process process = start_ours({"--verbose", "-w", "2", "-E", "5", directory / "file", "true"});
  ASSERT_TRUE(eventually([&] { return waits_for_lock(process.pid()); }));
  ASSERT_EQ(::ptrace(PTRACE_SEIZE, process.pid(), nullptr, nullptr), 0);
  ASSERT_EQ(::ptrace(PTRACE_INTERRUPT, process.pid(), nullptr, nullptr), 0);
  int stopped = 0;
  ASSERT_EQ(::waitpid(process.pid(), &stopped, __WALL), process.pid());
  ASSERT_TRUE(WIFSTOPPED(stopped));
  const Finished finished = process.wait();
  EXPECT_EQ(finished.status, exited(5));
  EXPECT_EQ(finished.err, "flock: timeout while waiting to get lock\n");
}

TEST(FlockPersonality, FollowsTheNameWhenTheFileWasReplacedMeanwhile)
{
  const TempDir directory;
  const fs::path file = directory / "file";
  HeldLock held(file);
  Process process = start_ours(with_command({file}, k_stay), talking());
  ASSERT_TRUE(eventually([&] { return waits_for_lock(process.pid()); }));
  fs::remove(file);
  held.release();
  ASSERT_EQ(process.out_line(), "in");
  EXPECT_FALSE(is_free(file));
  process.close_input();
  (void)process.wait();
}

TEST(FlockPersonality, PassesNoSignalOnAndLeavesTheLockToTheCommand)
{
  const TempDir directory;
  const fs::path file = directory / "file";
  Process process = start_ours(with_command({file}, k_stay), talking());
  ASSERT_EQ(process.out_line(), "in");
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, killed(SIGTERM));
  EXPECT_FALSE(is_free(file));
  process.close_input();
  EXPECT_TRUE(eventually([&] { return is_free(file); }));
}

TEST(FlockPersonality, BecomesTheCommand)
{
  const TempDir directory;
  const fs::path file = directory / "file";
  Process process = start_ours({"-F", file, "sh", "-c", "echo $$; read -r line"}, talking());
  EXPECT_EQ(process.out_line(), std::to_string(process.pid()));
  EXPECT_FALSE(is_free(file));
  process.close_input();
  EXPECT_EQ(process.wait().status, exited(1));
  EXPECT_TRUE(is_free(file));
}

TEST(FlockPersonality, FailsWhenWhatItSaysIsLost)
{
  const TempDir directory;
  Start start;
  start.out = to_file("/dev/full");
  const Finished finished = run_ours({"--verbose", directory / "file", "true"}, start);
  EXPECT_EQ(finished.status, exited(1));
  EXPECT_EQ(finished.err, "flock: write error: No space left on device\n");
}

TEST(FlockPersonality, FailsWhenItsComplaintIsLost)
{
  const TempDir directory;
  for (const Redirect& lost : {to_file("/dev/full"), k_closed}) {
    Start start;
    start.err = lost;
    EXPECT_EQ(run_ours({"--bogus"}, start).status, exited(1));
    EXPECT_EQ(run_ours({directory / "none/file", "true"}, start).status, exited(1));
    EXPECT_EQ(run_ours({directory / "file", "false"}, start).status, exited(1));
    EXPECT_EQ(run_ours({directory / "file", "sh", "-c", "exit 7"}, start).status, exited(7));
    EXPECT_EQ(run_ours({directory / "file", "no-such-command"}, start).status, exited(69)); // its child's complaint
  }
}

TEST(FlockPersonality, LocksBytesOfAFileThatItMayOnlyWrite)
{
  const TempDir directory;
  ::chmod(directory.path().c_str(), 0777);
  const std::string file = write_file(directory / "file", "", 0222);
  Start start;
  if (::geteuid() == 0) { start.before_exec = {hostile::become_user(k_nobody)}; }
  EXPECT_EQ(run_ours({"--fcntl", file, "true"}, start).status, exited(0));
  EXPECT_EQ(run_ours({"--fcntl", "-s", file, "true"}, start).status, exited(66));
}

} // namespace
} // namespace lockrun::testing
