#include "child/witness.hpp"

#include "child/supervise.hpp"
#include "sys/clock.hpp"
#include "sys/memory.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <new>

#include <sys/wait.h>

namespace lockrun::child {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// A command that ends before costs no process.
constexpr milliseconds k_first_look{100};
// A program that signals several processes one by one takes so long for it, unless it loses the processor in between:
// then we wait for it, but not forever.
constexpr milliseconds k_skew{10};
constexpr milliseconds k_longest_skew{100};
// We may have to wait so long for a processor when a signal has come: the helper, which had one, took it before we ask.
constexpr milliseconds k_longest_delay{500};
// A helper has been stopped if it does not answer in that time. Usually it takes 0.05 ms.
constexpr milliseconds k_answer{500};
constexpr milliseconds k_poll{1};

constexpr const char* k_name = "signal-witness";

// Everything that came before it has been noted when it arrives: the kernel hands out the lowest number first.
int question_signal()
{
  return alarm_signal();
}

// Whether the sender may be about to send more of them.
bool is_at_it(pid_t sender)
{
  if (sender <= 0 || sender == sys::process_id()) { return false; }
  const auto status = sys::process_status(sender);
  return status && status->state == 'R';
}

} // namespace

// What a helper and we let each other know.
struct Witness::Notes {
  std::atomic<bool> is_ready;
  std::atomic<std::uint32_t> question; // the last one
  std::atomic<std::uint32_t> answer;   // the last question that it got
  struct Seen {
    std::atomic<std::int64_t> last;   // when it got it at last, on the steady clock
    std::atomic<std::uint32_t> count; // how often it got it
    std::uint32_t used = 0;           // ours: how many of these we know what to do with
  };
  std::array<Seen, NSIG> seen; // of each signal
  static_assert(std::atomic<std::int64_t>::is_always_lock_free, "two processes share them");

  // The life of a helper.
  [[noreturn]] static void take(Notes& notes, pid_t parent, bool in_parents_group)
  {
    const sys::SignalSet all = sys::SignalSet::all();
    if (!sys::die_with_parent() || sys::parent_process() != parent) { sys::exit_now(1); }
    if (!sys::close_all_descriptors()) { sys::exit_now(1); }
    if (!in_parents_group) {
      if (!sys::begin_session()) { sys::exit_now(1); }
      // What came before this may have been for the process group.
      for (auto early = sys::wait_signal(all, nanoseconds(0)); early && *early;) {
        early = sys::wait_signal(all, nanoseconds(0));
      }
      notes.answer = notes.question.load();
    }
    notes.is_ready = true;
    sys::replace_command_line(k_name);
    for (;;) {
      const auto signal = sys::wait_signal(all, std::nullopt);
      if (!signal || !*signal) { continue; }
      if ((*signal)->number == question_signal()) {
        notes.answer = notes.question.load();
      } else {
        Seen& seen = notes.seen.at(static_cast<std::size_t>((*signal)->number));
        seen.last = sys::steady_now().count();
        ++seen.count;
      }
    }
  }
};

Witness::Witness(Group group)
  : m_group(group), m_next_look(sys::steady_now() + k_first_look), m_look_interval(k_first_look)
{}

Witness::~Witness()
{
  end();
}

// As the kernel does with what is pending (kill(2), SIGCONT): otherwise a signal that stops would be passed on after
// the one that continues.
void Witness::drop_opposite(int signal)
{
  const sys::SignalSet stopping{SIGTSTP, SIGTTIN, SIGTTOU};
  if (signal != SIGCONT && !stopping.contains(signal)) { return; }
  const auto is_opposite = [&](const Question& open) {
    return signal == SIGCONT ? stopping.contains(open.signal.number) : open.signal.number == SIGCONT;
  };
  m_questions.erase(std::remove_if(m_questions.begin(), m_questions.end(), is_opposite), m_questions.end());
}

std::optional<Reach> Witness::ask(const sys::Signal& signal)
{
  drop_opposite(signal.number);
  const auto is_same = [&](const Question& open) { return open.signal.number == signal.number; };
  if (std::any_of(m_questions.begin(), m_questions.end(), is_same)) { return std::nullopt; }
  if (!has_helper()) { return Reach{}; }
  const bool outside = has_just_got(m_outside, signal.number);
  const bool in_group = has_just_got(m_in_group, signal.number);
  if (outside || in_group) { drop_own_copy(signal.number); }
  if (outside) { return Reach{true, false, true}; }
  if (in_group && m_outside.pid == 0) { return Reach{true, false, false}; } // else the other one may be about to get it
  const nanoseconds now = sys::steady_now();
  m_questions.push_back({signal, now, now + k_skew, in_group, is_ready(m_outside)});
  return std::nullopt;
}

// A program that signals us and then all of us (timeout(1)) may have done both before we asked about the first: what
// the helper has got is then the second one, and our copy of that is on its way.
void Witness::drop_own_copy(int signal)
{
  constexpr milliseconds k_delivery{1}; // the kernel signals a group in one go
  (void)sys::wait_signal({signal}, k_delivery);
}

void Witness::disregard(int signal)
{
  drop_opposite(signal);
  (void)has_just_got(m_outside, signal);
  (void)has_just_got(m_in_group, signal);
}

nanoseconds Witness::due() const
{
  return m_questions.empty() ? m_next_look : std::min(m_next_look, m_questions.front().due);
}

std::optional<Witness::Verdict> Witness::work(pid_t command)
{
  const nanoseconds now = sys::steady_now();
  // In the order in which they came: a sender of CONT after TERM wants that.
  if (!m_questions.empty() && is_answered(m_questions.front(), now)) {
    const Verdict verdict{m_questions.front().signal, reach_of(m_questions.front())};
    m_questions.erase(m_questions.begin());
    return verdict;
  }
  if (now >= m_next_look) {
    look_after(command);
    m_next_look = now + m_look_interval;
    m_look_interval *= 2;
  }
  return std::nullopt;
}

void Witness::end()
{
  end(m_in_group);
  end(m_outside);
}

// The command may have moved to another group since the last time, and a helper may have been killed, or could not be
// made.
void Witness::look_after(pid_t command)
{
  if (command == 0) { return; }
  const bool in_group = shares_our_group(command, m_group);
  if (in_group && !m_group && !is_there(m_in_group)) { make(m_in_group, true); }
  if ((!in_group || !shares_our_control_group(command)) && !is_there(m_outside)) { make(m_outside, false); }
}

void Witness::make_in_group()
{
  make(m_in_group, true);
}

// In vain if the kernel refuses: then there is no witness.
void Witness::make(Helper& helper, bool in_our_group)
{
  end(helper);
  if (m_notes == nullptr) {
    const auto memory = sys::shared_memory(2 * sizeof(Notes));
    if (!memory) { return; }
    m_notes = static_cast<Notes*>(*memory);
  }
  helper.notes = new (m_notes + (in_our_group ? 0 : 1)) Notes{};
  const pid_t us = sys::process_id();
  const sys::SignalSet mask = sys::set_signal_mask(sys::SignalSet::all());
  const auto child = sys::fork_unnoticed();
  if (child && *child == 0) { Notes::take(*helper.notes, us, in_our_group); }
  (void)sys::set_signal_mask(mask);
  if (child) { helper.pid = *child; }
}

void Witness::end(Helper& helper)
{
  if (helper.pid == 0) { return; }
  (void)sys::kill(helper.pid, SIGKILL);
  (void)sys::wait_child(helper.pid, WEXITED | __WALL);
  helper.pid = 0;
}

// Reaps it if not.
bool Witness::is_there(Helper& helper)
{
  if (helper.pid == 0) { return false; }
  const auto change = sys::wait_child(helper.pid, WEXITED | WNOHANG | __WALL);
  if (!change || *change) { helper.pid = 0; }
  return helper.pid != 0;
}

bool Witness::has_helper()
{
  const bool in_group = is_there(m_in_group);
  return is_there(m_outside) || in_group;
}

bool Witness::is_answered(Question& question, nanoseconds now)
{
  if (now < question.due) { return false; }
  if (!has_helper()) { return true; }
  if (question.number == 0) {
    if (now < question.since + k_longest_skew && is_at_it(question.signal.sender)) {
      question.due = now + k_skew;
      return false;
    }
    question.number = ++m_last_number;
    for (const Helper* const helper : {&m_in_group, &m_outside}) {
      if (helper->pid == 0) { continue; }
      helper->notes->question = question.number;
      (void)sys::kill(helper->pid, question_signal());
    }
  } else if (now >= question.since + k_longest_skew + k_answer) {
    for (Helper* const helper : {&m_in_group, &m_outside}) {
      if (!has_answered(*helper, question.number)) { end(*helper); }
    }
    m_next_look = now;
  }
  question.due = now + k_poll;
  return has_answered(m_in_group, question.number) && has_answered(m_outside, question.number);
}

bool Witness::has_answered(const Helper& helper, std::uint32_t number)
{
  return helper.pid == 0 || helper.notes->answer >= number;
}

bool Witness::is_ready(const Helper& helper)
{
  return helper.pid != 0 && helper.notes->is_ready;
}

// Whether it has got it at this moment, without being asked, and each time only once.
bool Witness::has_just_got(const Helper& helper, int signal)
{
  if (!is_ready(helper)) { return false; }
  Notes::Seen& seen = helper.notes->seen.at(static_cast<std::size_t>(signal));
  const std::uint32_t count = seen.count; // read before what is still to come
  const auto pending = sys::check_proc() ? sys::pending_signals(helper.pid) : Result<sys::SignalSet>(sys::SignalSet());
  if (pending && pending->contains(signal)) {
    seen.used = count + 1;
    return true;
  }
  return has_seen(helper, signal, sys::steady_now());
}

bool Witness::has_seen(const Helper& helper, int signal, nanoseconds since)
{
  if (!is_ready(helper)) { return false; }
  Notes::Seen& seen = helper.notes->seen.at(static_cast<std::size_t>(signal));
  const std::uint32_t count = seen.count;
  const bool is_new = static_cast<std::int32_t>(count - seen.used) > 0; // fewer: one is still on its way
  if (!is_new || nanoseconds(seen.last) < since - k_longest_skew - k_longest_delay) { return false; }
  seen.used = count;
  return true;
}

Reach Witness::reach_of(const Question& question) const
{
  const bool in_group = has_seen(m_in_group, question.signal.number, question.since) || question.in_group;
  const bool outside = has_seen(m_outside, question.signal.number, question.since);
  return {in_group || outside, in_group && !outside && question.outside_can_tell && is_ready(m_outside), outside};
}

} // namespace lockrun::child
