#include "kernel/slots.hpp"

#include "kernel/queue.hpp"
#include "sys/lock.hpp"
#include "sys/signal.hpp"
#include "sys/thread.hpp"

#include <atomic>
#include <chrono>
#include <deque>

namespace lockrun::kernel {
namespace {

using sys::Attempt;

constexpr std::size_t k_stack_bytes = 64 * 1024;
// How long a nudge may take until it is repeated: it can arrive just before the call blocks, and then it ends nothing.
constexpr std::chrono::milliseconds k_nudge_pause{1};
// How often to look where there can be no threads.
constexpr std::chrono::milliseconds k_pause_without_threads{20};

// What all who wait for a slot know of each other. The calling thread waits for slot 0, helpers for the others.
struct Race {
  const sys::Descriptor* fd;
  pid_t caller;
  std::atomic<bool> is_over{false};
  std::atomic<bool> caller_is_out{false};
};

struct Runner {
  Runner(Race& in, int for_slot) noexcept : race(&in), slot(for_slot) {}
  Race* race;
  int slot;
  sys::Thread thread{};
  std::atomic<pid_t> number{0}; // the thread's, as soon as it knows
  Result<Attempt> answer = Attempt::interrupted;
};

// Until it has an answer, or the race is over.
Result<Attempt> wait_for_slot(const Runner& runner)
{
  Result<Attempt> answer = Attempt::interrupted;
  while (answer && *answer == Attempt::interrupted && !runner.race->is_over.load()) {
    answer = sys::ofd_lock(*runner.race->fd, Mode::exclusive, byte_of_slot(runner.slot), Wait::allowed);
  }
  return answer;
}

void* run(void* argument)
{
  auto& runner = *static_cast<Runner*>(argument);
  Race& race = *runner.race;
  runner.number.store(sys::thread_id());
  runner.answer = wait_for_slot(runner);
  if (race.is_over.exchange(true)) { return nullptr; }
  // The first one calls the caller out of its own wait. Its answer, which comes when all is over, ends the sleep.
  while (!race.caller_is_out.load()) {
    (void)sys::kill_thread(race.caller, sys::wake_signal());
    (void)sys::wait_signal({}, k_nudge_pause);
  }
  return nullptr;
}

void call_out(std::deque<Runner>& runners)
{
  const auto nudge = [](const Runner& runner) {
    // One that has not told its number yet looks at is_over before it blocks.
    if (const pid_t number = runner.number.load(); number != 0) { (void)sys::kill_thread(number, sys::wake_signal()); }
  };
  for (const Runner& runner : runners) { nudge(runner); }
  for (const Runner& runner : runners) {
    while (sys::join_within(runner.thread, k_nudge_pause) == sys::Joined::not_yet) { nudge(runner); }
  }
}

// Runs the race. The calling thread is ready to be called out.
Result<std::optional<int>> race_for_slot(const sys::Descriptor& fd, int count, bool& has_threads)
{
  Race race{&fd, sys::thread_id()};
  std::deque<Runner> runners; // which never move
  Result<std::optional<int>> won = std::nullopt;
  const auto note = [&](int slot, const Result<Attempt>& answer) {
    const bool has_none = won && !*won;
    if (!answer) {
      if (has_none) { won = tl::unexpected(answer.error()); }
    } else if (*answer != Attempt::acquired) {
      return;
    } else if (has_none) {
      won = slot;
    } else {
      (void)free_slot(fd, slot); // two became free at once
    }
  };
  for (int slot = 1; slot < count; ++slot) {
    Runner& runner = runners.emplace_back(race, slot);
    const auto thread = sys::start_thread(run, &runner, k_stack_bytes);
    if (!thread) {
      has_threads = false;
      runners.pop_back();
      race.is_over.store(true);
      break;
    }
    runner.thread = *thread;
  }
  const Result<Attempt> own =
    race.is_over.load() ? Attempt::interrupted : sys::ofd_lock(fd, Mode::exclusive, byte_of_slot(0), Wait::allowed);
  race.is_over.store(true);
  race.caller_is_out.store(true);
  call_out(runners);
  note(0, own);
  for (const Runner& runner : runners) { note(runner.slot, runner.answer); }
  return won;
}

} // namespace

Range byte_of_slot(int slot)
{
  return {k_first_slot + slot, 1};
}

Result<std::optional<int>> try_slot(const sys::Descriptor& fd, int count)
{
  for (int slot = 0; slot < count; ++slot) {
    const auto attempt = sys::ofd_lock(fd, Mode::exclusive, byte_of_slot(slot), Wait::never);
    if (!attempt) { return tl::unexpected(attempt.error()); }
    if (*attempt == Attempt::acquired) { return slot; }
  }
  return std::nullopt;
}

Result<std::optional<int>> wait_slot(const sys::Descriptor& fd, int count)
{
  const auto free = try_slot(fd, count);
  if (!free || *free) { return free; }
  const auto interruptible = sys::Interruptible::create();
  if (!interruptible) { return tl::unexpected(interruptible.error()); }
  const sys::SignalSet before = sys::unblock_signals({sys::wake_signal()});
  bool has_threads = true;
  auto won = race_for_slot(fd, count, has_threads);
  if (!has_threads) {
    // No grant can be lost: only the first one in the queue looks, and it keeps its place there.
    (void)sys::wait_signal({}, k_pause_without_threads);
    if (won && !*won) { won = try_slot(fd, count); }
  }
  (void)sys::set_signal_mask(before);
  return won; // who wants to interrupt us does so again and again
}

Result<void> free_slot(const sys::Descriptor& fd, int slot)
{
  return sys::ofd_unlock(fd, byte_of_slot(slot));
}

} // namespace lockrun::kernel
