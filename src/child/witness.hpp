#pragma once

#include "child/signal_rules.hpp"
#include "sys/signal.hpp"

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include <sys/types.h>

namespace lockrun::child {

// Finds out which processes a signal was meant for. A signal to a whole process group, or to each process of a control
// group (cgroups(7)), reaches the command by itself and must not be passed on; one to us alone must be. The kernel does
// not say which it was. So we keep a process for no other purpose than to be there as well: a signal that it got was
// for all.
//
// Why not without one: the two look the same to us, down to siginfo_t. What the command gets cannot be seen from
// outside. Were we in a process group of our own, only we would miss what is for the group; but timeout(1) signals us
// first and the group then, and a service manager each process of a control group. A thread shares our signals, and a
// process that shares our memory has our command line, so that `pkill -f lockrun` would seem to be for all.
//
// The process has our process group, or is in a session of its own (which separates what is for the control group from
// what is for the process group) as long as a command needs that. It has every signal blocked, takes them with
// sigwaitinfo(2), and notes in memory that we share when it got each. It holds no descriptor, ends with us, is not
// called lockrun, and sends no signal when it ends: waitid(2) does not know of it without __WALL.
//
// What a kill(2) sends to a group is there before we are woken. If it is not, an answer takes a moment, in which the
// supervisor goes on with everything else: a program that signals the processes one by one may have come to us first.
// The same signal again in that moment is the same signal. Where there is no such process, yet or at all, each signal
// is taken to be for us alone.
class Witness {
public:
  // `group`: as in signal_rules.hpp. With one only make_in_group() makes the process in it, and only before it is left.
  explicit Witness(Group group = {});
  ~Witness();
  Witness(const Witness&) = delete;
  Witness& operator=(const Witness&) = delete;

  struct Verdict {
    sys::Signal signal;
    Reach reach;
  };

  // The process in our process group, now and not when a command has run for a while.
  void make_in_group();

  // We got `signal`. How far it reached, if that is known; otherwise work() will say.
  std::optional<Reach> ask(const sys::Signal& signal);

  // We got it, and it does not matter which others got it: it will not be asked about.
  void disregard(int signal);

  // When work() wants to be called, on the steady clock.
  std::chrono::nanoseconds due() const;

  // Looks after the processes when it is time for that, and returns what has been found out about one signal; none:
  // nothing more for now. `command` says which processes are needed; 0: it has ended, and those that are there will do.
  std::optional<Verdict> work(pid_t command);

  // Ends the processes.
  void end();

  // Our children that are no members of the tree; 0 where there is none.
  std::array<pid_t, 2> processes() const { return {m_in_group.pid, m_outside.pid}; }

private:
  struct Notes;
  struct Helper {
    pid_t pid = 0;
    Notes* notes = nullptr;
  };
  struct Question {
    sys::Signal signal;
    std::chrono::nanoseconds since;
    std::chrono::nanoseconds due;
    bool in_group;            // the helper in our process group got it, as far as we knew when the signal came
    bool outside_can_tell;    // there was one in a session of its own then
    std::uint32_t number = 0; // 0: they have not been asked yet
  };

  void look_after(pid_t command);
  bool has_helper();
  void make(Helper& helper, bool in_our_group);
  static void end(Helper& helper);
  static bool is_there(Helper& helper);
  bool is_answered(Question& question, std::chrono::nanoseconds now);
  static bool has_answered(const Helper& helper, std::uint32_t number);
  static void drop_own_copy(int signal);
  void drop_opposite(int signal);
  static bool is_ready(const Helper& helper);
  static bool has_just_got(const Helper& helper, int signal);
  static bool has_seen(const Helper& helper, int signal, std::chrono::nanoseconds since);
  Reach reach_of(const Question& question) const;

  Group m_group;
  Notes* m_notes = nullptr;
  Helper m_in_group; // shares our process group
  Helper m_outside;  // in a session of its own
  std::chrono::nanoseconds m_next_look;
  std::chrono::nanoseconds m_look_interval;
  std::uint32_t m_last_number = 0;
  std::vector<Question> m_questions;
};

} // namespace lockrun::child
