#include "child/supervise.hpp"

#include "child/relay.hpp"
#include "child/tree.hpp"
#include "sys/clock.hpp"

#include <algorithm>
#include <cerrno>

#include <sys/wait.h>

namespace lockrun::child {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// Its own signal, so that nobody's SIGALRM is mistaken for it.
int alarm_signal()
{
  return SIGRTMIN + 1;
}

// How often the tree is swept with SIGKILL: members that forked between our look and our blow are met the next time.
constexpr milliseconds k_first_sweep{2};
constexpr milliseconds k_last_sweep{1000};
// How often in a row our own children are killed, when there are new ones each time.
constexpr int k_chase = 1000;
// A process that SIGKILL has not ended by then sits in the kernel (state D).
constexpr milliseconds k_patience_with_killed{2000};

enum class Phase { running, asked_to_end, being_killed };

// Ends the whole tree: first politely, then not.
class Terminator {
public:
  Terminator(const Tree& tree, Observer& observer) : m_tree(tree), m_observer(observer) {}

  // Everybody who has not been asked yet gets `signal`, and SIGCONT so that a stopped one can obey.
  void ask(int signal)
  {
    const auto members = m_tree.members();
    if (!members) { return; }
    for (const auto& member : *members) {
      if (was_asked(member)) { continue; }
      m_asked.push_back(member);
      (void)send(member, signal);
      (void)send(member, SIGCONT);
    }
  }

  void kill()
  {
    const auto members = m_tree.members();
    if (!members) { return; }
    std::vector<sys::ProcessStatus> immortal;
    const bool long_enough = sys::elapsed_now() - m_kill_began > k_patience_with_killed;
    for (const auto& member : *members) {
      const Delivery delivery = send(member, SIGKILL);
      if (delivery == Delivery::refused || (long_enough && delivery == Delivery::sent)) { immortal.push_back(member); }
    }
    if (!immortal.empty() && !std::exchange(m_told, true)) { m_observer.cannot_end(immortal); }
  }

  // A process that forks and ends, and so on, is somebody else before kill() comes to it. But each of them becomes our
  // own child, where it is seen at once; and no number is given to a stranger before we have reaped its owner. Whether
  // there was anybody.
  bool kill_children() const
  {
    bool sent_any = false;
    for (const pid_t child : m_tree.children()) { sent_any = sys::kill(child, SIGKILL).has_value() || sent_any; }
    return sent_any;
  }

  void begin_killing() { m_kill_began = sys::elapsed_now(); }

private:
  bool was_asked(const sys::ProcessStatus& member) const
  {
    return std::any_of(m_asked.begin(), m_asked.end(),
      [&](const sys::ProcessStatus& asked) { return asked.pid == member.pid && asked.start == member.start; });
  }

  const Tree& m_tree;
  Observer& m_observer;
  std::vector<sys::ProcessStatus> m_asked;
  nanoseconds m_kill_began{};
  bool m_told = false;
};

class Supervisor {
public:
  Supervisor(pid_t command, const Supervision& how, const Tree& tree, sys::Alarm* alarm)
    : m_command(command), m_how(how), m_tree(tree), m_alarm(alarm)
  {
    if (how.observer != nullptr) { m_terminator.emplace(tree, *how.observer); }
  }

  Ending stay(const sys::SignalSet& listened)
  {
    while (!is_over()) {
      const auto received = sys::wait_signal(listened, patience());
      if (!received || !*received) {
        sweep();
      } else {
        handle(**received);
      }
    }
    if (m_phase != Phase::running) {
      const bool killed = m_phase == Phase::being_killed || m_how.limit->signal == SIGKILL;
      m_ending = {Ending::How::overtime, 0, killed, false, {}};
    }
    return m_ending;
  }

private:
  bool is_over() const
  {
    if (m_phase == Phase::running && !m_how.until_tree_ends) { return m_command_ended; }
    return m_command_ended && m_tree_is_empty;
  }

  // Only the killing phase looks by itself; everything else waits for a signal.
  std::optional<nanoseconds> patience()
  {
    if (m_phase != Phase::being_killed) { return std::nullopt; }
    return std::exchange(m_next_sweep, std::min(m_next_sweep * 2, k_last_sweep));
  }

  void sweep()
  {
    if (m_phase == Phase::being_killed) { kill(); }
    take_stock();
  }

  void kill()
  {
    for (int i = 0; i < k_chase && m_terminator->kill_children(); ++i) { reap(); }
    if (!is_over()) { m_terminator->kill(); }
  }

  void handle(const sys::Signal& signal)
  {
    if (signal.number == SIGCHLD) {
      take_stock();
      if (m_phase == Phase::asked_to_end && !is_over()) { m_terminator->ask(m_how.limit->signal); }
      if (m_phase == Phase::being_killed && !is_over()) { kill(); }
    } else if (signal.number == alarm_signal()) {
      escalate();
    } else if (!m_command_ended) {
      if (is_from_terminal(signal)) { m_key = signal.number; }
      if (is_for_command(signal, m_command)) { (void)sys::kill(m_command, signal.number); }
    } else {
      pass_to_rest(signal);
    }
  }

  // The command has ended, its daemons hold the lock on: signals are for them now.
  void pass_to_rest(const sys::Signal& signal)
  {
    const auto members = m_tree.members();
    if (!members) { return; }
    for (const auto& member : *members) {
      if (is_for_command(signal, member.pid)) { (void)send(member, signal.number); }
    }
  }

  void escalate()
  {
    if (m_phase == Phase::running) {
      m_phase = Phase::asked_to_end;
      m_how.observer->overtime(*m_how.limit);
      m_terminator->ask(m_how.limit->signal);
      (void)m_alarm->set(sys::elapsed_now() + m_how.limit->kill_after); // a timer that was set once can be set again
    } else {
      m_phase = Phase::being_killed;
      m_terminator->begin_killing();
      kill();
    }
    take_stock();
  }

  // Reaps, and sees whether the tree is empty.
  void take_stock()
  {
    reap();
    if (m_command_ended && m_tree.has_strangers() && !is_over()) {
      const auto members = m_tree.members();
      m_tree_is_empty = members && members->empty();
    }
  }

  void reap()
  {
    for (;;) {
      const auto change = sys::wait_child(0, WEXITED | WSTOPPED | WNOHANG);
      if (!change) {
        m_tree_is_empty = true; // ECHILD is all that it can say
        return;
      }
      if (!*change) { break; }
      const sys::ChildChange& told = **change;
      if (m_command_ended || told.pid != m_command) { continue; } // its number may be another's once it is reaped
      if (told.kind == sys::ChildChange::Kind::stopped) {
        if (m_phase == Phase::running) { stop_with(m_command); }
        continue;
      }
      m_command_ended = true;
      const bool exited = told.kind == sys::ChildChange::Kind::exited;
      m_ending = {
        exited ? Ending::How::exited : Ending::How::killed, told.value, false, !exited && told.value == m_key, {}};
      if (is_over()) { return; }
    }
  }

  pid_t m_command;
  const Supervision& m_how;
  const Tree& m_tree;
  sys::Alarm* m_alarm;
  std::optional<Terminator> m_terminator;
  Phase m_phase = Phase::running;
  int m_key = 0; // the last signal that we got because of a key on the terminal
  bool m_command_ended = false;
  bool m_tree_is_empty = false;
  milliseconds m_next_sweep = k_first_sweep;
  Ending m_ending;
};

Error cannot_supervise(const sys::Program& program, SysError cause)
{
  return {Reason::start_failed, program.file, cause};
}

} // namespace

sys::SignalSet supervised_signals()
{
  return {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH, SIGTSTP, SIGTTIN, SIGTTOU, SIGCHLD,
    alarm_signal()};
}

Error start_error(const char* file, SysError cause)
{
  const std::string_view call = cause.call;
  if (call != "execve") { return {Reason::start_failed, file, cause}; }
  return {cause.code == ENOENT ? Reason::not_found : Reason::not_executable, file, cause};
}

Result<Ending, Error> run(const sys::Program& program, const Supervision& supervision)
{
  const sys::SignalSet listened = supervised_signals();
  (void)sys::block_signals(listened);
  // With SIGCHLD ignored the kernel would throw the status away (wait(2)); the command gets it back as it was.
  const auto on_child = sys::set_disposition(SIGCHLD, sys::Disposition::standard);
  if (!on_child) { return tl::unexpected(cannot_supervise(program, on_child.error())); }
  if (const auto reaper = sys::become_subreaper(); !reaper) {
    return tl::unexpected(cannot_supervise(program, reaper.error()));
  }
  Tree tree;
  if (supervision.until_tree_ends || supervision.limit || supervision.names_left_behind) {
    auto strangers = Tree::before_start();
    if (!strangers) { return tl::unexpected(cannot_supervise(program, strangers.error())); }
    tree = std::move(*strangers);
  }
  std::optional<sys::Alarm> alarm;
  if (supervision.limit) {
    auto created = sys::Alarm::create(alarm_signal());
    if (!created) { return tl::unexpected(cannot_supervise(program, created.error())); }
    alarm.emplace(std::move(*created));
    if (const auto set = alarm->set(supervision.limit->moment); !set) {
      return tl::unexpected(cannot_supervise(program, set.error()));
    }
  }
  sys::Program unchanged = program;
  unchanged.ignores_child = *on_child == sys::Disposition::ignored;
  const auto started = sys::spawn(unchanged);
  if (!started) { return tl::unexpected(start_error(program.file, started.error())); }
  Supervisor supervisor(*started, supervision, tree, alarm ? &*alarm : nullptr);
  Ending ending = supervisor.stay(listened);
  if (supervision.names_left_behind) {
    ending.left_behind = tree.members().value_or(std::vector<sys::ProcessStatus>());
  }
  return ending;
}

} // namespace lockrun::child
