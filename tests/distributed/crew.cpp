#include "crew.hpp"

#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"

#include <fstream>

#include <fmt/format.h>

namespace lockrun::testing {
namespace {

std::string name_of(pid_t pid)
{
  std::string name;
  std::getline(std::ifstream(fmt::format("/proc/{}/comm", pid)), name);
  return name;
}

pid_t child_of(pid_t parent, bool is_engine)
{
  if (parent == 0) { return 0; }
  std::ifstream children(fmt::format("/proc/{0}/task/{0}/children", parent));
  for (pid_t child = 0; children >> child;) {
    const std::string name = name_of(child);
    if (!name.empty() && name.starts_with("lockrun-engine") == is_engine) { return child; }
  }
  return 0;
}

} // namespace

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
    argv.insert(argv.end(),
      {program("ticker"), task.log, std::to_string(is_long ? dice.roll(1'000, task.longest) : dice.roll(1, 100))});
    Start start;
    start.environment = task.environment;
    start.out = k_null;
    start.err = to_file(task.log + ".err");
    Process process(argv, start);
    m_is_long = is_long;
    m_lockrun = process.pid();
    const WaitStatus status = process.wait().status;
    m_lockrun = 0;
    if (status == exited(0)) { ++m_done; }
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

Crew::Crew(int size, Task task, Dice& dice) : m_task(std::move(task))
{
  for (int i = 0; i < size; ++i) { m_workers.push_back(std::make_unique<Worker>(m_task, dice, m_stop)); }
}

int Crew::done() const
{
  int sum = 0;
  for (const auto& worker : m_workers) { sum += worker->done(); }
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
  write_file(m_task.log + ".stop", "");
  for (const auto& worker : m_workers) { worker->join(); }
}

} // namespace lockrun::testing
