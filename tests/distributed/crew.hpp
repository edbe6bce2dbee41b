#pragma once

#include "support/process.hpp"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <sys/types.h>

namespace lockrun::testing {

// Falls the same way again with the same seed, for all that may roll it at once.
class Dice {
public:
  explicit Dice(unsigned seed) : m_engine(seed) {}
  int roll(int from, int to);
  std::chrono::milliseconds time(int from, int to) { return std::chrono::milliseconds(roll(from, to)); }

private:
  std::mutex m_mutex;
  std::mt19937 m_engine;
};

std::string name_of(pid_t pid);
std::vector<pid_t> children_of(pid_t parent);
std::vector<pid_t> descendants(); // of ours

struct Task {
  std::vector<std::string> lock; // what to put before the command
  Start start;                   // with what
  std::string log;               // of the tickers
  int longest = 0;               // of the long sections, in milliseconds
};

// One who takes the lock again and again, and works under it: for a moment mostly, and for long now and then.
class Worker {
public:
  Worker(const Task& task, Dice& dice, const std::atomic<bool>& stop)
    : m_thread([this, &task, &dice, &stop] { work(task, dice, stop); })
  {}
  ~Worker() { join(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Its processes, 0 for one that is not there.
  pid_t lockrun() const { return m_lockrun; }
  pid_t engine() const;
  pid_t twin() const; // there is one while the command runs
  bool is_at_it_for_long() const { return m_is_long && twin() != 0; }
  bool is_long() const { return m_is_long; } // its present call, or will be
  bool waits() const { return engine() != 0 && twin() == 0; }

  void join();

  int ended() const { return m_ended; } // calls, however they have ended
  int done() const { return m_done; }
  int lost() const { return m_lost; }                // calls that lost the lock
  bool is_confused() const { return m_is_confused; } // the ticker did not understand us

private:
  void work(const Task& task, Dice& dice, const std::atomic<bool>& stop);

  std::atomic<pid_t> m_lockrun{0};
  std::atomic<bool> m_is_long{false};
  std::atomic<int> m_ended{0};
  std::atomic<int> m_done{0};
  std::atomic<int> m_lost{0};
  std::atomic<bool> m_is_confused{false};
  std::thread m_thread;
};

// Workers, until it is called a day.
class Crew {
public:
  Crew(std::vector<Task> tasks, Dice& dice); // one for each of them
  ~Crew() { finish(); }

  const std::vector<std::unique_ptr<Worker>>& workers() const { return m_workers; }
  int done() const; // sections that ended well
  int lost() const;
  bool is_confused() const;

  // They come to an end as soon as they can.
  void finish();

private:
  std::vector<Task> m_tasks;
  std::atomic<bool> m_stop{false};
  std::vector<std::unique_ptr<Worker>> m_workers;
};

} // namespace lockrun::testing
