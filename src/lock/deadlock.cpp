#include "lock/deadlock.hpp"

#include "kernel/ancestry.hpp"
#include "lock/process_trees.hpp"
#include "sys/clock.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <string>

namespace lockrun {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr nanoseconds k_shortest_pause = milliseconds(400);
// Between the look that found a circle and the one that makes sure.
constexpr nanoseconds k_second_look = seconds(1);
// For how long each of those that started later may give up before it is our turn: the one that should may not see the
// circle, because it may not look into the others, or not look at all (Nested::wait).
constexpr nanoseconds k_chance = seconds(2);
// One part in a hundred of the time, at most, and of ten together that look like us.
constexpr int k_rest_per_work = 100;
constexpr std::size_t k_lookers_for_full_rest = 10;

// Whether `other` looks for circles too, so that only one of us gives up: it runs this program, whatever the name is
// that it was started by. As flock(1) the program does not look.
bool looks_too(const sys::ProcessStatus& other)
{
  if (other.name == "flock") { return false; }
  if (kernel::runs_our_program(other)) { return true; }
  // Another version, the one before an upgrade; or one that we may not look into.
  const auto us = sys::process_status(sys::process_id());
  return us && us->name == other.name;
}

} // namespace

std::optional<std::vector<Party>> DeadlockSearch::look()
{
  const nanoseconds began = sys::thread_time();
  const pid_t us = sys::process_id();
  std::vector<WaitingProcess> circle;
  ProcessTrees trees;
  WaitGraph graph(trees);
  const bool could_help = sys::check_proc() && trees.have_something_to_give(us);
  const bool is_in_way = could_help && graph.keeps_others_waiting();
  if (is_in_way) { circle = graph.circle(); }
  // Where many look, each does so less often; those who have nothing to find out all together as often as one.
  const std::size_t lookers = is_in_way ? graph.lookers() : trees.waiting();
  const std::size_t crowd = could_help ? lookers / k_lookers_for_full_rest : lookers;
  const nanoseconds rest =
    (sys::thread_time() - began) * k_rest_per_work * static_cast<int>(std::max(crowd, std::size_t{1}));
  const bool seen_before = circle == std::exchange(m_seen, circle) && !circle.empty();
  m_pause = could_help ? std::clamp(rest, k_shortest_pause, k_longest_pause) : std::max(rest, k_longest_pause);
  if (!circle.empty() && !seen_before) { m_pause = k_second_look; }
  if (!seen_before) {
    m_certain_since.reset();
    return std::nullopt;
  }
  const auto younger = younger_lookers(circle);
  if (!younger) { return std::nullopt; }
  const nanoseconds now = sys::steady_now();
  if (!m_certain_since) { m_certain_since = now; }
  const nanoseconds turn = *m_certain_since + *younger * k_chance;
  if (now < turn) {
    m_pause = turn - now;
    return std::nullopt;
  }
  std::vector<Party> parties;
  parties.reserve(circle.size());
  for (const WaitingProcess& each : circle) {
    parties.push_back({each.pid, sys::command_line(each.pid).value_or(std::string()), graph.path_of(each)});
  }
  return parties;
}

std::optional<int> DeadlockSearch::younger_lookers(const std::vector<WaitingProcess>& circle)
{
  int younger = 0;
  const WaitingProcess& ours = circle.front();
  for (const WaitingProcess& each : circle) {
    const auto other = sys::process_status(each.pid);
    // It has ended since the look, maybe because it gave up itself: there is no circle any more.
    if (!other || other->start != each.start || other->state == 'Z') { return std::nullopt; }
    const bool is_younger = std::pair(each.start, each.pid) > std::pair(ours.start, ours.pid);
    if (is_younger && looks_too(*other)) { ++younger; }
  }
  return younger;
}

} // namespace lockrun
