// How late calls give up when many wait for one lock: bench_crowd LOCKRUN [--waiters N] [--rounds N] [PART]...
// Each part runs the same crowd with and without -q, which looks at nothing and says nothing, one after the other in
// one run: the difference is what looking and talking cost. Times of a shared machine mean little by themselves.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using Clock = std::chrono::steady_clock;
using Argv = std::vector<std::string>;
using Milliseconds = std::chrono::duration<double, std::milli>;

[[noreturn]] void fail(const std::string& text)
{
  fmt::print(stderr, "crowd: {}\n", text);
  std::exit(1);
}

pid_t start(const Argv& words, int output)
{
  std::vector<char*> argv;
  for (const std::string& word : words) { argv.push_back(const_cast<char*>(word.c_str())); }
  argv.push_back(nullptr);
  std::string path = "PATH=/usr/bin:/bin";
  char* const environment[] = {path.data(), nullptr};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, output, 1);
  ::posix_spawn_file_actions_adddup2(&actions, output, 2);
  pid_t pid = 0;
  const int code = ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environment);
  ::posix_spawn_file_actions_destroy(&actions);
  if (code != 0) { fail(fmt::format("cannot run {}: {}", words[0], std::strerror(code))); }
  return pid;
}

// A lock that a process beside the crowd holds. If we held it, the calls would wait for their own ancestor.
class HeldLock {
public:
  explicit HeldLock(const std::string& path)
  {
    int ready[2];
    if (::pipe(ready) != 0) { fail("cannot make a pipe"); }
    m_pid = ::fork();
    if (m_pid == 0) {
      const int fd = ::open(path.c_str(), O_RDWR | O_CREAT, 0666);
      if (fd < 0 || ::flock(fd, LOCK_EX | LOCK_NB) != 0 || ::write(ready[1], "", 1) != 1) { ::_exit(1); }
      for (;;) { ::pause(); }
    }
    ::close(ready[1]);
    char byte = 0;
    if (m_pid < 0 || ::read(ready[0], &byte, 1) != 1) { fail("cannot lock " + path); }
    ::close(ready[0]);
  }
  ~HeldLock()
  {
    (void)::kill(m_pid, SIGKILL);
    (void)::waitpid(m_pid, nullptr, 0);
  }
  HeldLock(const HeldLock&) = delete;
  HeldLock& operator=(const HeldLock&) = delete;
  pid_t pid() const { return m_pid; }

private:
  pid_t m_pid = -1;
};

struct Lateness {
  double median;
  double most;
  double processor; // milliseconds that one call used
  int named;        // percent of the calls that named the holder
};

int percent_of_lines_with(const std::string& path, const std::string& text, std::size_t calls)
{
  std::FILE* const file = std::fopen(path.c_str(), "r");
  if (file == nullptr) { fail("cannot read " + path); }
  std::size_t found = 0;
  char line[4096];
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::strstr(line, text.c_str()) != nullptr && std::strstr(line, ": waiting for") == nullptr) { ++found; }
  }
  (void)std::fclose(file);
  return static_cast<int>(100 * found / calls);
}

// One crowd: the calls, and how long each of them should take.
struct Crowd {
  std::vector<Argv> calls;
  std::chrono::duration<double> patience;
  std::string ending; // what a call says that names the holder
};

double processor_time(const rusage& usage)
{
  const auto of = [](const timeval& time) {
    return 1000.0 * static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1000.0;
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

Lateness run(const Crowd& crowd, const std::string& said)
{
  const int output = ::open(said.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
  if (output < 0) { fail("cannot write " + said); }
  std::map<pid_t, Clock::time_point> began;
  std::vector<double> late;
  double processor = 0;
  const auto reap = [&](int options) {
    int status = 0;
    rusage usage{};
    pid_t pid = 0;
    do {
      pid = ::wait4(-1, &status, options, &usage);
      if (pid <= 0) { return false; }
    } while (!began.contains(pid));
    late.push_back((Milliseconds(Clock::now() - began.at(pid)) - Milliseconds(crowd.patience)).count());
    processor += processor_time(usage);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 75) { fail(fmt::format("a call ended with {:#x}", status)); }
    return true;
  };
  for (const Argv& call : crowd.calls) {
    const auto now = Clock::now();
    began.emplace(start(call, output), now);
    while (reap(WNOHANG)) {}
  }
  while (late.size() < crowd.calls.size() && reap(0)) {}
  ::close(output);
  if (late.size() != crowd.calls.size()) { fail("calls are missing"); }
  std::sort(late.begin(), late.end());
  return {late[late.size() / 2], late.back(), processor / static_cast<double>(late.size()),
    percent_of_lines_with(said, crowd.ending, late.size())};
}

struct Part {
  const char* name;
  const char* what;
  double median_bar; // milliseconds more than with -q
  double most_bar;
};
constexpr Part k_parts[] = {
  {"plain", "-w 3", 50, 500},
  {"short", "-w 0.5", 50, 500},
  {"fair", "-w 3 --fair", 50, 500},
  {"trees", "-w 20, each inside a call that holds a lock of its own", 100, 1000},
  {"busy", "-n, beside waiters", 50, 500},
};

class Bench {
public:
  Bench(std::string lockrun, std::string directory, std::size_t waiters)
    : m_lockrun(std::move(lockrun)), m_directory(std::move(directory)), m_waiters(waiters)
  {}

  Lateness run(const Part& part, bool quiet)
  {
    const std::string name = part.name;
    const std::string lock = m_directory + "/" + name + (quiet ? "-q" : "");
    const HeldLock held(lock);
    const std::string ending = fmt::format("held by PID {}", held.pid());
    std::vector<Argv> calls;
    if (name == "busy") {
      std::vector<pid_t> waiting;
      for (std::size_t i = 0; i < m_waiters; ++i) { waiting.push_back(start({m_lockrun, "-q", lock, "true"}, 2)); }
      for (std::size_t i = 0; i < m_waiters; ++i) { calls.push_back(call({"-n"}, quiet, lock)); }
      const Lateness late = ::run({calls, std::chrono::seconds(0), ending}, m_directory + "/said");
      for (const pid_t pid : waiting) { (void)::kill(pid, SIGKILL); }
      for (const pid_t pid : waiting) { (void)::waitpid(pid, nullptr, 0); }
      return late;
    }
    const double patience = name == "short" ? 0.5 : name == "trees" ? 20 : 3;
    for (std::size_t i = 0; i < m_waiters; ++i) {
      Argv options{"-w", fmt::format("{}", patience)};
      if (name == "fair") { options.emplace_back("--fair"); }
      Argv words = call(options, quiet, lock);
      if (name == "trees") {
        Argv outer{m_lockrun, fmt::format("{}/own-{}-{}", m_directory, quiet, i)};
        outer.insert(outer.end(), words.begin(), words.end());
        words = std::move(outer);
      }
      calls.push_back(std::move(words));
    }
    return ::run({calls, std::chrono::duration<double>(patience), ending}, m_directory + "/said");
  }

private:
  Argv call(const Argv& options, bool quiet, const std::string& lock) const
  {
    Argv words{m_lockrun};
    words.insert(words.end(), options.begin(), options.end());
    if (quiet) { words.emplace_back("-q"); }
    words.push_back(lock);
    words.emplace_back("true");
    return words;
  }

  std::string m_lockrun;
  std::string m_directory;
  std::size_t m_waiters;
};

} // namespace

int main(int argc, char** argv)
{
  if (argc < 2) { fail("usage: bench_crowd LOCKRUN [--waiters N] [--rounds N] [plain|short|fair|trees|busy]..."); }
  std::size_t waiters = 800;
  int rounds = 3;
  std::set<std::string> wanted;
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--waiters" && i + 1 < argc) {
      waiters = static_cast<std::size_t>(std::max(1, std::atoi(argv[++i])));
    } else if (word == "--rounds" && i + 1 < argc) {
      rounds = std::max(1, std::atoi(argv[++i]));
    } else {
      wanted.insert(word);
    }
  }
  (void)std::setvbuf(stdout, nullptr, _IOLBF, 0); // a line is told when it is known, also into a pipe
  char directory[] = "/tmp/lockrun-crowd-XXXXXX";
  if (::mkdtemp(directory) == nullptr) { fail("cannot make a directory in /tmp"); }
  Bench bench(argv[1], directory, waiters);
  fmt::print("{} calls each, milliseconds\n{:<8}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>9}\n", waiters, "", "late",
    "with -q", "latest", "with -q", "CPU a call", "with -q", "named");
  bool kept = true;
  for (const Part& part : k_parts) {
    if (!wanted.empty() && !wanted.contains(part.name)) { continue; }
    for (int round = 0; round < rounds; ++round) {
      const Lateness quiet = bench.run(part, true);
      const Lateness usual = bench.run(part, false);
      const bool fits = usual.median - quiet.median <= part.median_bar && usual.most - quiet.most <= part.most_bar;
      kept = kept && fits;
      fmt::print("{:<8}{:>12.1f}{:>12.1f}{:>12.1f}{:>12.1f}{:>12.2f}{:>12.2f}{:>8}%{}\n", part.name, usual.median,
        quiet.median, usual.most, quiet.most, usual.processor, quiet.processor, usual.named, fits ? "" : "  missed");
    }
  }
  const std::string clean = std::string("rm -rf ") + directory;
  if (std::system(clean.c_str()) != 0) { fail("cannot remove " + std::string(directory)); }
  return kept ? 0 : 1;
}
