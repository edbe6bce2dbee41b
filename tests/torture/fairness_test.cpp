// First come, first served, by any mix of shared and exclusive, whoever is killed on the way. LOCKRUN_TORTURE_GRANTS
// says how often (above 1000 by 200 processes), LOCKRUN_SEED how the dice fall; scripts/torture runs long.

#include "kernel/queue.hpp"
#include "support/eventually.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/shared.hpp"
#include "support/temp_dir.hpp"
#include "sys/file.hpp"
#include "sys/lock.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using sys::Attempt;

int number_from(const char* variable, int otherwise)
{
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::stoi(text) : otherwise;
}

struct Grant {
  std::atomic<bool> is_complete;
  unsigned long before;  // it had not yet arrived
  unsigned long arrived; // it had
  unsigned long granted;
};

// What all processes write to. Moments are the numbers that a common counter had.
struct Record {
  std::atomic<unsigned long> counter;
  std::atomic<int> grants;
  std::atomic<pid_t> last_exclusive;
  std::atomic<int> meetings;
  std::array<Grant, 20'000> all;
};

enum class Order { kept, left_to_chance };

class Crowd {
public:
  Crowd(const std::filesystem::path& path, int grants, Order order) : m_path(path), m_wanted(grants), m_order(order) {}

  // Until there have been enough grants. Every tenth grant kills somebody, who is replaced.
  void run(std::size_t processes, unsigned seed)
  {
    std::mt19937 random(seed);
    std::vector<std::unique_ptr<Forked>> crowd;
    const auto send_one = [&] {
      const auto own_seed = static_cast<unsigned>(random());
      crowd.push_back(std::make_unique<Forked>([this, own_seed] { return queue_over_and_over(own_seed); }));
    };
    while (crowd.size() < processes) { send_one(); }
    int next_kill = 10;
    while (eventually([&] { return m_record->grants.load() >= std::min(next_kill, m_wanted); }) &&
           m_record->grants.load() < m_wanted) {
      next_kill = m_record->grants.load() + 10;
      auto& victim = crowd[random() % crowd.size()];
      (void)victim->kill();
      std::swap(victim, crowd.back());
      crowd.pop_back();
      send_one();
    }
    for (const auto& process : crowd) { EXPECT_EQ(process->wait(), exited(0)); }
  }

  int grants() const { return std::min(m_record->grants.load(), m_wanted); }
  int meetings() const { return m_record->meetings.load(); }

  // How many were served although somebody who had certainly arrived earlier was still waiting.
  int inversions() const
  {
    std::vector<const Grant*> order;
    for (const Grant& grant : m_record->all) {
      if (grant.is_complete.load()) { order.push_back(&grant); }
    }
    std::sort(order.begin(), order.end(), [](const Grant* a, const Grant* b) { return a->granted < b->granted; });
    int found = 0;
    unsigned long latest = 0; // of those served so far
    for (const Grant* grant : order) {
      if (grant->arrived < latest) { ++found; }
      latest = std::max(latest, grant->before);
    }
    return found;
  }

private:
  unsigned long now() { return ++m_record->counter; }

  int queue_over_and_over(unsigned seed)
  {
    std::mt19937 random(seed);
    while (m_record->grants.load() < m_wanted) {
      const Mode mode = random() % 2 == 0 ? Mode::shared : Mode::exclusive;
      const auto fd = sys::open(m_path.c_str(), O_RDWR | O_CREAT, 0600);
      if (!fd) { return 1; }
      kernel::QueuePlace place(*fd);
      const unsigned long before = now();
      if (place.enter() != Attempt::acquired) { return 2; }
      const unsigned long arrived = now();
      if (m_order == Order::kept && place.wait_turn() != Attempt::acquired) { return 3; }
      if (sys::flock(*fd, mode, Wait::allowed) != Attempt::acquired) { return 4; }
      note(before, arrived, now());
      place.leave();
      stay(mode);
    }
    return 0;
  }

  void note(unsigned long before, unsigned long arrived, unsigned long granted)
  {
    const auto index = static_cast<std::size_t>(m_record->grants++);
    if (index >= m_record->all.size()) { return; }
    Grant& grant = m_record->all[index];
    grant.before = before;
    grant.arrived = arrived;
    grant.granted = granted;
    grant.is_complete.store(true);
  }

  // No exclusive one may come while anybody is inside.
  void stay(Mode mode)
  {
    if (mode == Mode::exclusive) { m_record->last_exclusive.store(::getpid()); }
    const pid_t last = m_record->last_exclusive.load();
    for (int i = 0; i < 5; ++i) { ::sched_yield(); }
    if (m_record->last_exclusive.load() != last) { ++m_record->meetings; }
  }

  std::filesystem::path m_path;
  int m_wanted;
  Order m_order;
  Shared<Record> m_record;
};

TEST(Fairness, NobodyIsOvertakenWhoeverIsKilled)
{
  const int grants = number_from("LOCKRUN_TORTURE_GRANTS", 1'000);
  const auto seed = static_cast<unsigned>(number_from("LOCKRUN_SEED", static_cast<int>(std::random_device()() >> 1U)));
  std::cout << "LOCKRUN_SEED=" << seed << "\n";
  const TempDir dir;
  Crowd crowd(dir / "lock", grants, Order::kept);
  crowd.run(grants > 1'000 ? 200 : 24, seed);
  EXPECT_GE(crowd.grants(), grants);
  EXPECT_EQ(crowd.inversions(), 0);
  EXPECT_EQ(crowd.meetings(), 0);
  EXPECT_TRUE(kernel_locks(dir / "lock").empty());
}

// The twin: with the kernel's own queue alone, newcomers must be seen to overtake.
TEST(Fairness, NobodyIsOvertakenOnlyBecauseOfTheQueue)
{
  EXPECT_TRUE(eventually([] {
    const TempDir dir;
    Crowd crowd(dir / "lock", 200, Order::left_to_chance);
    crowd.run(24, 1);
    return crowd.inversions() > 0;
  }));
}

} // namespace
} // namespace lockrun::testing
