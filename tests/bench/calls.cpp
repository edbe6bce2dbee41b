// What a call costs, side by side with the peers: ratios from one run, because absolute times on a shared machine are
// worth nothing. bench_calls LOCKRUN FLOOR NOTHING [--rounds N] [calls|handover|memory|budget]...
//
// `budget` is for every build: it counts what does not depend on the machine's mood, and fails where the hot path has
// become dearer than what is written here.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using Clock = std::chrono::steady_clock;
using Argv = std::vector<std::string>;

[[noreturn]] void fail(const std::string& text)
{
  fmt::print(stderr, "bench: {}\n", text);
  std::exit(1);
}

// --- Programs -------------------------------------------------------------------------------------------------------

struct Tool {
  std::string name;
  Argv argv;          // without the lock and the command
  bool execs = false; // it becomes the command: nobody is there to be counted afterwards
  bool slow = false;  // a script: a tenth of the rounds is enough
  bool bare = false;  // takes no lock
};

struct Place {
  std::string directory;
  std::string lock(const std::string& tool) const
  {
    std::string name = tool;
    std::replace(name.begin(), name.end(), ' ', '_');
    std::replace(name.begin(), name.end(), '/', '_');
    return directory + "/" + name + ".lock";
  }
};

std::string find_program(const std::string& name)
{
  if (name.find('/') != std::string::npos) { return name; }
  std::istringstream path(std::getenv("PATH") != nullptr ? std::getenv("PATH") : "/usr/bin:/bin");
  for (std::string directory; std::getline(path, directory, ':');) {
    if (::access((directory + "/" + name).c_str(), X_OK) == 0) { return directory + "/" + name; }
  }
  return {};
}

// A small environment, as cron gives.
std::vector<std::string> g_environment; // filled once in main

class Started {
public:
  explicit Started(const Argv& words)
  {
    std::vector<char*> argv;
    for (const std::string& word : words) { argv.push_back(const_cast<char*>(word.c_str())); }
    argv.push_back(nullptr);
    std::vector<char*> environment;
    for (std::string& variable : g_environment) { environment.push_back(variable.data()); }
    environment.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    for (const int fd : {0, 1, 2}) { ::posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0); }
    const int code = ::posix_spawnp(&m_pid, argv[0], &actions, nullptr, argv.data(), environment.data());
    ::posix_spawn_file_actions_destroy(&actions);
    if (code != 0) { fail(fmt::format("cannot run {}: {}", words[0], std::strerror(code))); }
  }
  pid_t pid() const { return m_pid; }
  rusage wait(const char* name) const
  {
    int status = 0;
    rusage usage{};
    while (::wait4(m_pid, &status, 0, &usage) != m_pid) {
      if (errno != EINTR) { fail("wait4"); }
    }
    if (status != 0) { fail(fmt::format("{} failed, wait status {:#x}", name, status)); }
    return usage;
  }

private:
  pid_t m_pid = 0;
};

Argv call(const Tool& tool, const Place& place, const std::string& command)
{
  Argv words = tool.argv;
  if (!tool.bare) { words.push_back(place.lock(tool.name)); }
  words.push_back(command);
  return words;
}

double mean_of_faster_half(std::vector<double> values)
{
  std::sort(values.begin(), values.end());
  const std::size_t half = std::max<std::size_t>(1, values.size() / 2);
  double sum = 0;
  for (std::size_t i = 0; i < half; ++i) { sum += values[i]; }
  return sum / static_cast<double>(half);
}

double median(std::vector<double> values)
{
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// --- A call without anybody else in the way
// ---------------------------------------------------------------------------

struct Bar {
  std::string what;
  double value;
  double limit;
};

std::map<std::string, double> measure_calls(
  const std::vector<Tool>& tools, const Place& place, const std::string& nothing, int rounds)
{
  std::map<std::string, std::vector<double>> seconds;
  std::mt19937 random(1);
  std::vector<const Tool*> order;
  for (const Tool& tool : tools) { order.push_back(&tool); }
  for (int round = -2; round < rounds; ++round) { // the first two bring the files into memory
    std::shuffle(order.begin(), order.end(), random);
    for (const Tool* tool : order) {
      if (tool->slow && round % 20 != 0) { continue; }
      const auto start = Clock::now();
      const Started started(call(*tool, place, nothing));
      (void)started.wait(tool->name.c_str());
      const std::chrono::duration<double> took = Clock::now() - start;
      if (round >= 0) { seconds[tool->name].push_back(took.count()); }
    }
  }
  std::map<std::string, double> result;
  for (auto& [name, all] : seconds) { result[name] = mean_of_faster_half(all); }
  return result;
}

std::optional<double> user_instructions(const Tool& tool, const Place& place, const std::string& nothing)
{
  if (tool.execs || tool.bare || tool.slow || find_program("valgrind").empty()) { return {}; }
  const std::string log = place.directory + "/callgrind.log";
  Argv words = {"valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--log-file=" + log};
  for (const std::string& word : call(tool, place, nothing)) { words.push_back(word); }
  (void)Started(words).wait("valgrind");
  std::ifstream in(log);
  for (std::string line; std::getline(in, line);) {
    const auto at = line.find("Collected : ");
    if (at != std::string::npos) { return std::stod(line.substr(at + 12)); }
  }
  return {};
}

std::optional<double> system_calls(const Tool& tool, const Place& place, const std::string& nothing)
{
  if (tool.slow || find_program("strace").empty()) { return {}; }
  const std::string log = place.directory + "/strace.log";
  Argv words = {"strace", "-f", "-qq", "-e", "signal=none", "-o", log};
  for (const std::string& word : call(tool, place, nothing)) { words.push_back(word); }
  (void)Started(words).wait("strace");
  std::ifstream in(log);
  double count = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.find("<unfinished") == std::string::npos && line.find("+++") == std::string::npos) { ++count; }
  }
  return count;
}

double page_faults(const Tool& tool, const Place& place, const std::string& nothing)
{
  double sum = 0;
  constexpr int k_runs = 40;
  for (int run = 0; run < (tool.slow ? 1 : k_runs); ++run) {
    sum += static_cast<double>(Started(call(tool, place, nothing)).wait(tool.name.c_str()).ru_minflt);
  }
  return sum / (tool.slow ? 1 : k_runs);
}

std::string shown(const std::optional<double>& value, const char* format)
{
  return value ? fmt::format(fmt::runtime(format), *value) : "-";
}

void tell_calls(
  const std::vector<Tool>& tools, const Place& place, const std::string& nothing, int rounds, std::vector<Bar>& bars)
{
  const auto seconds = measure_calls(tools, place, nothing, rounds);
  const double floor = seconds.at("floor");
  const double flock = seconds.contains("flock") ? seconds.at("flock") : std::nan("");
  std::map<std::string, double> faults;
  fmt::print("{:<20} {:>9} {:>9} {:>9} {:>12} {:>8} {:>7} {:>9}\n", "", "of flock", "of floor", "us", "user instr.",
    "syscalls", "faults", "bytes");
  for (const Tool& tool : tools) {
    const double mine = seconds.at(tool.name);
    struct stat status {};
    const std::string program = find_program(tool.argv.empty() ? nothing : tool.argv[0]);
    const bool sized = ::stat(program.c_str(), &status) == 0;
    const auto instructions = user_instructions(tool, place, nothing);
    faults[tool.name] = page_faults(tool, place, nothing);
    fmt::print("{:<20} {:>9.2f} {:>9.2f} {:>9.0f} {:>12} {:>8} {:>7.1f} {:>9}\n", tool.name, mine / flock, mine / floor,
      mine * 1e6, shown(instructions, "{:.0f}"), shown(system_calls(tool, place, nothing), "{:.0f}"), faults[tool.name],
      sized ? std::to_string(status.st_size) : "-");
    if (instructions && tool.name == "lockrun") {
      bars.push_back({"user instructions of lockrun", *instructions, 32000});
    }
    if (instructions && tool.name == "lockrun -w 5 -E 3") {
      bars.push_back({"user instructions of lockrun -w 5 -E 3", *instructions, 130000});
    }
    if (sized && tool.name == "lockrun") {
      bars.push_back({"bytes of the program", static_cast<double>(status.st_size), 1.9e6});
    }
  }
  const auto ratio = [&](const char* name, const char* to, double limit) {
    if (!seconds.contains(name) || !seconds.contains(to)) { return; }
    bars.push_back({fmt::format("{} of {}", name, to), seconds.at(name) / seconds.at(to), limit});
  };
  ratio("lockrun", "floor", 1.05);
  ratio("lockrun", "flock", 0.85);
  ratio("lockrun -w 5 -E 3", "floor", 1.12);
  ratio("lockrun -F", "setlock", 1.0);
  ratio("lockrun -F", "flock -F", 0.80);
  ratio("lockrun --slots 4", "lockrun", 1.2);
  ratio("lockrun --slots 4", "sem", 0.02);
  bars.push_back({"page faults of lockrun above the floor's", faults["lockrun"] - faults["floor"], 12});
}

// --- Hand-over
// --------------------------------------------------------------------------------------------------------

// Processes that the kernel shows waiting for the file ("->" in /proc/locks, proc_locks(5)).
int waiters_of(const std::string& path)
{
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) { return 0; }
  const std::string inode = fmt::format(":{} ", status.st_ino);
  std::ifstream in("/proc/locks");
  int count = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.find("-> ") != std::string::npos && line.find(inode) != std::string::npos) { ++count; }
  }
  return count;
}

// A holder that is no ancestor of the waiters: those would see that nobody is going to release it.
class Held {
public:
  explicit Held(const std::string& path)
  {
    int ready[2];
    int end[2];
    if (::pipe2(ready, O_CLOEXEC) != 0 || ::pipe2(end, O_CLOEXEC) != 0) { fail("cannot make a pipe"); }
    m_pid = ::fork();
    if (m_pid < 0) { fail("cannot fork"); }
    if (m_pid == 0) {
      ::close(end[1]);
      const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
      char byte = 0;
      if (fd < 0 || ::flock(fd, LOCK_EX) != 0 || ::write(ready[1], &byte, 1) != 1) { ::_exit(1); }
      (void)::read(end[0], &byte, 1);
      ::_exit(0);
    }
    ::close(end[0]);
    ::close(ready[1]);
    char byte = 0;
    if (::read(ready[0], &byte, 1) != 1) { fail("cannot lock " + path); }
    ::close(ready[0]);
    m_end = end[1];
  }
  Held(const Held&) = delete;
  void release() const
  {
    ::close(m_end);
    (void)::waitpid(m_pid, nullptr, 0);
  }

private:
  pid_t m_pid = 0;
  int m_end = -1;
};

std::vector<Started> queue(const Tool& tool, const Place& place, const std::string& nothing, int count)
{
  std::vector<Started> waiters;
  for (int i = 0; i < count; ++i) { waiters.emplace_back(call(tool, place, nothing)); }
  while (waiters_of(place.lock(tool.name)) < count) { ::usleep(20000); }
  return waiters;
}

struct Drained {
  std::vector<double> per_hand_over; // s
  std::vector<double> processor;     // s, all waiters from their start
};

void tell_handover(
  const std::vector<Tool>& tools, const Place& place, const std::string& nothing, std::vector<Bar>& bars)
{
  fmt::print("\n{:<20} {:>8} {:>14} {:>9} {:>9} {:>14} {:>9}\n", "hand-over", "waiters", "us each", "of floor",
    "of flock", "processor us", "of flock");
  for (const int count : {1, 10, 100, 1000}) {
    std::map<std::string, Drained> drained;
    for (int run = 0; run < 5; ++run) {
      for (const Tool& tool : tools) {
        const Held held(place.lock(tool.name));
        rusage before{};
        ::getrusage(RUSAGE_CHILDREN, &before);
        const auto waiters = queue(tool, place, nothing, count);
        const auto start = Clock::now();
        held.release();
        for (const Started& waiter : waiters) { (void)waiter.wait(tool.name.c_str()); }
        const std::chrono::duration<double> took = Clock::now() - start;
        rusage after{};
        ::getrusage(RUSAGE_CHILDREN, &after);
        const auto seconds = [](const timeval& time) {
          return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
        };
        drained[tool.name].per_hand_over.push_back(took.count() / count);
        drained[tool.name].processor.push_back(
          (seconds(after.ru_utime) + seconds(after.ru_stime) - seconds(before.ru_utime) - seconds(before.ru_stime)) /
          count);
      }
    }
    const double floor = median(drained.at("floor").per_hand_over);
    const bool have_flock = drained.contains("flock");
    const double flock = have_flock ? median(drained.at("flock").per_hand_over) : std::nan("");
    const double flock_processor = have_flock ? median(drained.at("flock").processor) : std::nan("");
    for (const Tool& tool : tools) {
      const Drained& mine = drained.at(tool.name);
      fmt::print("{:<20} {:>8} {:>14.0f} {:>9.2f} {:>9.2f} {:>14.0f} {:>9.2f}\n", tool.name, count,
        median(mine.per_hand_over) * 1e6, median(mine.per_hand_over) / floor, median(mine.per_hand_over) / flock,
        median(mine.processor) * 1e6, median(mine.processor) / flock_processor);
    }
    const Drained& mine = drained.at("lockrun");
    if (count == 100) {
      bars.push_back({"hand-over with 100 waiters of the floor's", median(mine.per_hand_over) / floor, 1.1});
      bars.push_back({"hand-over with 100 waiters of flock's", median(mine.per_hand_over) / flock, 1.0});
      // They are let go before 200 ms have gone by, after which a waiter looks and talks.
      bars.push_back({"processor time of 100 waiters of flock's", median(mine.processor) / flock_processor, 1.0});
    }
    if (count == 1000) {
      bars.push_back({"processor time of 1000 waiters of flock's", median(mine.processor) / flock_processor, 1.3});
      for (const char* const queue : {"lockrun --fair", "lockrun --slots 4"}) {
        bars.push_back(
          {fmt::format("the same, {}", queue), median(drained.at(queue).processor) / flock_processor, 1.3});
      }
    }
  }
}

// --- Memory of a waiter
// -----------------------------------------------------------------------------------------------

std::map<std::string, double> memory_of(pid_t pid)
{
  std::map<std::string, double> memory; // kB
  std::ifstream in(fmt::format("/proc/{}/smaps_rollup", pid));
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string key;
    double value = 0;
    if (words >> key >> value) { memory[key] = value; }
  }
  return memory;
}

void tell_memory(const std::vector<Tool>& tools, const Place& place, const std::string& nothing, std::vector<Bar>& bars)
{
  fmt::print("\n{:<20} {:>17} {:>8}\n", "a waiter's memory", "private dirty kB", "Pss kB");
  for (const Tool& tool : tools) {
    const Held held(place.lock(tool.name));
    const auto waiters = queue(tool, place, nothing, 1);
    auto memory = memory_of(waiters[0].pid());
    fmt::print("{:<20} {:>17.0f} {:>8.0f}\n", tool.name, memory["Private_Dirty:"], memory["Pss:"]);
    if (tool.name == "lockrun") { bars.push_back({"private dirty kB of a waiter", memory["Private_Dirty:"], 106}); }
    held.release();
    (void)waiters[0].wait(tool.name.c_str());
  }
}

// --- The budget
// -------------------------------------------------------------------------------------------------------

struct Budget {
  const char* name;
  double instructions; // in user mode
  double system_calls; // lockrun's and the command's
  double page_faults;  // more than the floor's
};
// To be lowered with every gain; raised only with a reason that is worth it.
constexpr Budget k_budgets[] = {
  {"lockrun", 32000, 52, 19},
  {"lockrun -n", 35000, 52, 19},
  {"lockrun -w 5 -E 3", 130000, 75, 26},
  {"lockrun --slots 4", 106000, 57, 23},
  {"lockrun --fair", 37000, 58, 19},
};
constexpr double k_most_bytes = 1'900'000; // of the program

std::string contents_of(const std::string& file)
{
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A program of which the kernel has every page in memory, each by itself (memfd_create(2)). How many page faults the
// file itself costs depends on what the kernel happened to read at once when it was last read: three more or less.
class CopyInMemory {
public:
  explicit CopyInMemory(const std::string& program)
  {
    const std::string bytes = contents_of(program);
    const int writable = ::memfd_create("program", 0);
    if (writable < 0 || ::write(writable, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      fail("cannot copy " + program + " into memory");
    }
    m_fd = ::open(fmt::format("/proc/self/fd/{}", writable).c_str(), O_RDONLY | O_CLOEXEC);
    ::close(writable); // a file that is open for writing cannot be run (ETXTBSY)
    if (m_fd < 0) { fail("cannot open a copy in memory"); }
  }
  CopyInMemory(const CopyInMemory&) = delete;
  CopyInMemory& operator=(const CopyInMemory&) = delete;
  ~CopyInMemory() { ::close(m_fd); }
  std::string path() const { return fmt::format("/proc/{}/fd/{}", ::getpid(), m_fd); }

private:
  int m_fd;
};

bool is_static(const std::string& program)
{
  return contents_of(program).find("/ld-linux") == std::string::npos;
}

// What CTest takes for "skipped" is 77.
int check_budget(const std::vector<Tool>& tools, const Place& place, const std::string& nothing)
{
  for (const char* const needed : {"valgrind", "strace"}) {
    if (find_program(needed).empty()) {
      fmt::print("skipped: no {}\n", needed);
      return 77;
    }
  }
  std::map<std::string, const Tool*> by_name;
  for (const Tool& tool : tools) { by_name[tool.name] = &tool; }
  if (!is_static(by_name.at("lockrun")->argv[0])) {
    fmt::print("skipped: {} is not the static release program\n", by_name.at("lockrun")->argv[0]);
    return 77;
  }
  int status = 0;
  const auto hold = [&](const char* name, const char* what, std::optional<double> counted, double budget) {
    const bool kept = counted && *counted <= budget;
    fmt::print(
      "{:<20} {:<18} {:>9} of {:>7.0f}{}\n", name, what, shown(counted, "{:.0f}"), budget, kept ? "" : "  over");
    if (!kept) { status = 1; }
  };
  const CopyInMemory lockrun_copy(by_name.at("lockrun")->argv[0]);
  const CopyInMemory floor_copy(by_name.at("floor")->argv[0]);
  const CopyInMemory nothing_copy(nothing);
  const auto page_faults_of = [&](Tool tool, const CopyInMemory& copy) {
    tool.argv[0] = copy.path();
    return page_faults(tool, place, nothing_copy.path());
  };
  const double floor = page_faults_of(*by_name.at("floor"), floor_copy);
  for (const Budget& budget : k_budgets) {
    const Tool& tool = *by_name.at(budget.name);
    hold(budget.name, "user instructions", user_instructions(tool, place, nothing), budget.instructions);
    hold(budget.name, "system calls", system_calls(tool, place, nothing), budget.system_calls);
    hold(budget.name, "page faults", page_faults_of(tool, lockrun_copy) - floor, budget.page_faults);
  }
  hold(
    "lockrun", "bytes", static_cast<double>(std::filesystem::file_size(by_name.at("lockrun")->argv[0])), k_most_bytes);
  return status;
}

// Without those whose program is not installed.
std::vector<Tool> installed(std::vector<Tool> tools)
{
  std::string missing;
  std::erase_if(tools, [&](const Tool& tool) {
    if (tool.argv.empty() || !find_program(tool.argv[0]).empty()) { return false; }
    missing += " " + tool.argv[0];
    return true;
  });
  if (!missing.empty()) { fmt::print("not installed:{}\n", missing); }
  return tools;
}

} // namespace

int main(int argc, char** argv)
{
  if (argc < 4) { fail("usage: bench_calls LOCKRUN FLOOR NOTHING [--rounds N] [calls|handover|memory]..."); }
  const char* const other = std::getenv("LOCKRUN_BINARY"); // as the tests around the program take it
  const std::string lockrun = other != nullptr ? other : argv[1];
  const std::string floor = argv[2];
  const std::string nothing = argv[3];
  int rounds = 300;
  std::set<std::string> parts;
  for (int i = 4; i < argc; ++i) {
    if (std::string(argv[i]) == "--rounds" && i + 1 < argc) {
      rounds = std::max(1, std::atoi(argv[++i]));
    } else {
      parts.insert(argv[i]);
    }
  }
  (void)std::setvbuf(stdout, nullptr, _IOLBF, 0); // a line is told when it is known, also into a pipe
  char directory[] = "/tmp/lockrun-bench-XXXXXX";
  if (::mkdtemp(directory) == nullptr) { fail("cannot make a directory in /tmp"); }
  const Place place{directory};
  g_environment = {"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", std::string("HOME=") + directory};

  const std::vector<Tool> tools = installed({
    {"the command alone", {}, false, false, true},
    {"floor", {floor}},
    {"lockrun", {lockrun}},
    {"lockrun -n", {lockrun, "-n"}},
    {"lockrun -w 5 -E 3", {lockrun, "-w", "5", "-E", "3"}},
    {"lockrun -F", {lockrun, "-F"}, true},
    {"lockrun --slots 4", {lockrun, "--slots", "4"}},
    {"lockrun --fair", {lockrun, "--fair"}},
    {"flock", {"flock"}},
    {"flock -F", {"flock", "-F"}, true},
    {"setlock", {"setlock"}, true},
    {"s6-setlock", {"s6-setlock"}, true},
    {"chpst", {"chpst", "-l"}, true},
    {"with-lock-ex", {"with-lock-ex", "-w"}, true},
    {"lckdo", {"lckdo"}},
    {"sem", {"sem", "--will-cite", "--fg", "-j4", "--id"}, false, true},
  });
  std::vector<Bar> bars;
  if (parts.contains("budget")) { return check_budget(tools, place, nothing); }
  const auto wanted = [&](const char* part) { return parts.empty() || parts.contains(part); };
  if (wanted("calls")) { tell_calls(tools, place, nothing, rounds, bars); }
  std::vector<Tool> waiting;
  for (const Tool& tool : tools) {
    static const std::set<std::string> k_waiting = {
      "floor", "lockrun", "lockrun -w 5 -E 3", "lockrun --slots 4", "lockrun --fair", "flock"};
    if (k_waiting.contains(tool.name)) { waiting.push_back(tool); }
  }
  if (wanted("handover")) { tell_handover(waiting, place, nothing, bars); }
  if (wanted("memory")) { tell_memory(waiting, place, nothing, bars); }

  fmt::print("\n{:<50} {:>10} {:>10}\n", "bars", "measured", "at most");
  for (const Bar& bar : bars) {
    fmt::print(
      "{:<50} {:>10.6g} {:>10g}{}\n", bar.what, bar.value, bar.limit, bar.value <= bar.limit ? "" : "  missed");
  }
  const Argv clean = {"rm", "-rf", directory};
  (void)Started(clean).wait("rm");
}
