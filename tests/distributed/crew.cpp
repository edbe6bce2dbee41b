#include "crew.hpp"

#include "support/programs.hpp"
#include "support/temp_dir.hpp"

#include <filesystem>
#include <fstream>
#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

pid_t child_of(pid_t parent, bool is_engine)
{
  for (const pid_t child : children_of(parent)) {
    const std::string name = name_of(child);
    if (!name.empty() && name.starts_with("lockrun-engine") == is_engine) { return child; }
  }
  return 0;
}

} // namespace

std::string name_of(pid_t pid)
{
  std::string name;
  std::getline(std::ifstream(fmt::format("/proc/{}/comm", pid)), name);
  return name;
}

// Each thread has its own; none: there is no such process.
std::vector<pid_t> children_of(pid_t parent)
{
  std::vector<pid_t> found;
  std::error_code error;
  for (const auto& thread : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", parent), error)) {
    std::ifstream children(thread.path() / "children");
    for (pid_t child = 0; children >> child;) { found.push_back(child); }
  }
  return found;
}

std::vector<pid_t> descendants()
{
  std::vector<pid_t> found = children_of(::getpid());
  for (std::size_t i = 0; i < found.size(); ++i) {
    const std::vector<pid_t> more = children_of(found[i]);
    found.insert(found.end(), more.begin(), more.end());
  }
  return found;
}

int Dice::roll(int from, int to)
{
  const std::lock_guard guard(m_mutex);
  return std::uniform_int_distribution<int>(from, to)(m_engine);
}

void Worker::work(const Task& task, Dice& dice, const std::atomic<bool>& stop)
{
  while (!stop) {
    const bool is_long = dice.roll(0, 4) == 0;
    std::vector<std::string> argv = task.lock;
    // In another session than the process group that a nemesis kills.
    if (dice.roll(0, 1) == 0) { argv.insert(argv.end(), {"setsid", "--fork", "--wait"}); }
    argv.insert(argv.end(),
      {program("ticker"), task.log, std::to_string(is_long ? dice.roll(1'000, task.longest) : dice.roll(1, 100))});
    Start start = task.start;
    start.out = k_null;
    start.err = to_file(task.log + ".err");
    start.before_exec.push_back(hostile::new_session());
    m_is_long = is_long;
    Process process(argv, start);
    m_lockrun = process.pid();
    const WaitStatus status = process.wait().status;
    m_lockrun = 0;
    ++m_ended;
    if (status == exited(0)) { ++m_done; }
    if (status == exited(76)) { ++m_lost; }
    if (status == exited(64)) { m_is_confused = true; }
  }
}

void Worker::join()
{
  if (m_thread.joinable()) { m_thread.join(); }
}

pid_t Worker::engine() const
{
  return child_of(m_lockrun, true);
}

pid_t Worker::twin() const
{
  return child_of(m_lockrun, false);
}

Crew::Crew(std::vector<Task> tasks, Dice& dice) : m_tasks(std::move(tasks))
{
  for (const Task& task : m_tasks) { m_workers.push_back(std::make_unique<Worker>(task, dice, m_stop)); }
}

int Crew::done() const
{
  int sum = 0;
  for (const auto& worker : m_workers) { sum += worker->done(); }
  return sum;
}

int Crew::lost() const
{
  int sum = 0;
  for (const auto& worker : m_workers) { sum += worker->lost(); }
  return sum;
}

bool Crew::is_confused() const
{
  bool is_confused = false;
  for (const auto& worker : m_workers) { is_confused = is_confused || worker->is_confused(); }
  return is_confused;
}

void Crew::finish()
{
  m_stop = true;
  for (const Task& task : m_tasks) { write_file(task.log + ".stop", ""); }
  for (const auto& worker : m_workers) { worker->join(); }
}

} // namespace lockrun::testing
