#include "child/supervise.hpp"

#include "child/signal_relay.hpp"
#include "child/signal_rules.hpp"
#include "child/terminator.hpp"
#include "child/tree.hpp"
#include "sys/channel.hpp"
#include "sys/clock.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <sys/wait.h>

namespace lockrun::child {
namespace {

using std::chrono::nanoseconds;

// Whether a child of ours has ended, reaped or not, without asking waitid(2).
bool has_ended(pid_t child)
{
  const auto handle = sys::open_process(child);
  if (handle) {
    const auto ready = sys::wait_readable({&*handle}, nanoseconds(0));
    return ready && *ready != 0;
  }
  if (handle.error().code == ESRCH) { return true; }
  const auto status = sys::process_status(child); // Linux before 5.3
  return status ? status->state == 'Z' || status->state == 'X' : status.error().code == ESRCH;
}

enum class Phase { running, asked_to_end, being_killed };

class Supervisor {
public:
  Supervisor(pid_t command, const Supervision& how, Tree& tree, sys::Alarm* alarm)
    : m_command{command}, m_how(how), m_tree(tree), m_alarm(alarm), m_relay(m_command, how, tree)
  {
    if (how.observer != nullptr) {
      m_terminator.emplace(
        tree, [&how](const std::vector<sys::ProcessStatus>& members) { how.observer->cannot_end(members); });
      m_terminator->use(how.control_group);
    }
  }

  // An error: it has ended, but the kernel did not say how.
  Result<Ending> run(const sys::SignalSet& listened)
  {
    m_relay.begin();
    if (m_how.external != nullptr) { m_how.external->command_started(m_command.pid); }
    while (!is_over()) {
      m_relay.work();
      const auto received = next(listened);
      if (!received || !*received) {
        sweep();
      } else {
        handle(**received);
      }
    }
    m_relay.end();
    if (m_phase != Phase::running) {
      const bool killed = m_phase == Phase::being_killed || m_polite_signal == SIGKILL;
      m_ending = {m_cause, 0, killed, false, {}};
    } else if (m_lost_ending) {
      return tl::unexpected(*m_lost_ending);
    }
    return m_ending;
  }

private:
  // The kernel hands out the lowest number first, and a child's end has a lower one than the alarm: a tree that forks
  // and forks must not keep us from what ends it.
  Result<std::optional<sys::Signal>> next(const sys::SignalSet& listened)
  {
    if (m_how.external != nullptr) { return m_how.external->wait(patience()); }
    if (m_alarm != nullptr) {
      auto alarm = sys::wait_signal({alarm_signal()}, nanoseconds(0));
      if (alarm && *alarm) { return alarm; }
    }
    return sys::wait_signal(listened, patience());
  }

  bool is_over() const
  {
    if (m_phase == Phase::running && !m_how.until_tree_ends) { return m_command.has_ended; }
    return m_command.has_ended && m_tree_is_empty;
  }

  // While we kill, and while the kernel does not say what becomes of children, we have to look by ourselves; the
  // witness has a time of its own. For everything else we wait for a signal.
  nanoseconds patience()
  {
    const nanoseconds until_due = std::max(m_relay.due() - sys::steady_now(), nanoseconds(0));
    if (m_phase != Phase::being_killed && !m_no_answer) { return until_due; }
    return std::min<nanoseconds>(until_due, m_pause.next());
  }

  void sweep()
  {
    if (m_phase == Phase::being_killed) { kill(); }
    take_stock();
  }

  void kill()
  {
    m_terminator->chase([this] { reap(); });
    if (!is_over() && !m_terminator->kill()) { signal_command(SIGKILL); }
  }

  void handle(const sys::Signal& signal)
  {
    if (signal.number == SIGCHLD) {
      take_stock();
      if (m_phase == Phase::asked_to_end && !is_over()) { (void)m_terminator->ask(m_polite_signal); }
      if (m_phase == Phase::being_killed && !is_over()) { kill(); }
    } else if (signal.number == alarm_signal()) {
      act_on_clock();
    } else if (signal.number == SIGCONT) {
      reap(); // it may have been continued as well
      if (m_command.is_stopped) {
        m_relay.continue_command();
      } else {
        m_relay.take(signal);
      }
    } else {
      m_relay.take(signal);
    }
  }

  // Takes each step towards the tree's end whose time has come, and sets the alarm for the next one.
  void act_on_clock()
  {
    take_stock();
    const nanoseconds now = sys::elapsed_now();
    if (m_how.external != nullptr) { obey(*m_how.external, now); }
    if (is_over()) { return; } // by itself, while we were stopped perhaps
    if (m_phase == Phase::running && m_how.limit && now >= m_how.limit->moment) {
      m_how.observer->overtime(*m_how.limit);
      m_kill_at = now + m_how.limit->kill_after;
      ask(Ending::How::overtime, m_how.limit->signal);
    } else if (m_phase == Phase::asked_to_end && m_cause == Ending::How::overtime && now >= m_kill_at) {
      begin_killing();
    }
    set_alarm();
    take_stock();
  }

  // The other process wants the tree ended, or is gone.
  void obey(ExternalControl& control, nanoseconds now)
  {
    if (m_phase == Phase::being_killed) { return; }
    if (now >= control.kill_at() || control.is_gone()) {
      m_cause = Ending::How::lost;
      (void)control.claim_asking();
      begin_killing();
    } else if (m_phase == Phase::running && (control.is_asked() || now >= control.ask_at())) {
      if (control.claim_asking()) { return ask(Ending::How::lost, control.signal()); }
      m_phase = Phase::asked_to_end; // the other process has asked
      m_cause = Ending::How::lost;
      m_polite_signal = control.signal();
    }
  }

  void ask(Ending::How cause, int signal)
  {
    m_phase = Phase::asked_to_end;
    m_cause = cause;
    m_polite_signal = signal;
    if (m_terminator->ask(signal)) { return; }
    signal_command(signal);
    signal_command(SIGCONT);
  }

  // The tree cannot be seen, for want of descriptors perhaps: at least the one that we know.
  void signal_command(int signal) const
  {
    if (!m_command.has_ended) { (void)sys::kill(m_command.pid, signal); }
  }

  void begin_killing()
  {
    m_phase = Phase::being_killed;
    m_terminator->begin_killing();
    kill();
  }

  // A timer that was set once can be set again.
  void set_alarm()
  {
    if (m_phase == Phase::being_killed) { return; }
    nanoseconds next = nanoseconds::max();
    if (m_how.limit && m_phase == Phase::running) { next = m_how.limit->moment; }
    if (m_phase == Phase::asked_to_end && m_cause == Ending::How::overtime) { next = m_kill_at; }
    if (m_how.external != nullptr) {
      const ExternalControl& control = *m_how.external;
      next = std::min(next, m_phase == Phase::running ? control.ask_at() : control.kill_at());
    }
    (void)m_alarm->set(next);
  }

  // Reaps, and sees whether the tree is empty.
  void take_stock()
  {
    reap();
    if (m_command.has_ended && (m_tree.has_strangers() || m_no_answer) && !is_over()) {
      const auto members = m_tree.members();
      m_tree_is_empty = members && members->empty();
    }
  }

  // The command has stopped. If it shares our process group and terminal we stop too, so that the shell takes the
  // terminal back (Ctrl-Z). Whether we did, and have been continued.
  bool stop_too(int signal) const
  {
    if (m_how.external == nullptr) { return stop_beside(m_command.pid, signal); }
    m_how.external->command_stopped(signal); // says later that we are continued
    return false;
  }

  void reap()
  {
    bool continued = false; // we are, after we had stopped
    for (;;) {
      const auto change = sys::wait_child(0, WEXITED | WSTOPPED | WCONTINUED | WNOHANG);
      if (!change) { return do_without_answer(change.error()); }
      m_no_answer.reset();
      if (!*change) { break; }
      const sys::ChildChange& told = **change;
      if (m_command.has_ended || told.pid != m_command.pid) {
        continue;
      } // its number may be another's once it is reaped
      m_command.is_stopped = told.kind == sys::ChildChange::Kind::stopped;
      if (m_command.is_stopped && m_phase == Phase::running) { continued = stop_too(told.value) || continued; }
      if (m_command.is_stopped || told.kind == sys::ChildChange::Kind::continued) { continue; }
      m_command.has_ended = true;
      const bool exited = told.kind == sys::ChildChange::Kind::exited;
      m_ending = {exited ? Ending::How::exited : Ending::How::killed, told.value, false,
        !exited && told.value == m_relay.key(), {}};
      if (is_over()) { return; }
    }
    // The shell continues the whole group; then the command runs already and must not get SIGCONT twice.
    if (continued && m_command.is_stopped) { m_relay.pass_on(SIGCONT); }
  }

  // The kernel does not say what has become of the children. ECHILD after the command's end: there is none any more. In
  // any other case we look from time to time whether the command is still there.
  void do_without_answer(const SysError& error)
  {
    if (m_command.has_ended && error.code == ECHILD) {
      m_tree_is_empty = true;
      return;
    }
    if (!m_no_answer) { m_pause.reset(); }
    m_no_answer = error;
    if (m_command.has_ended || !has_ended(m_command.pid)) { return; }
    if (!std::exchange(m_asks_again, true)) { return; } // soon
    m_command.has_ended = true;
    m_lost_ending = error;
  }

  CommandState m_command;
  const Supervision& m_how;
  const Tree& m_tree;
  sys::Alarm* m_alarm;
  SignalRelay m_relay;
  std::optional<Terminator> m_terminator;
  Phase m_phase = Phase::running;
  Ending::How m_cause = Ending::How::overtime; // why it is being ended, if it is
  int m_polite_signal = SIGTERM;
  nanoseconds m_kill_at{};
  bool m_tree_is_empty = false;
  SweepPause m_pause; // until the next sweep, or look at what the kernel does not say
  Ending m_ending;
  std::optional<SysError> m_no_answer;   // what the kernel said instead, the last time
  bool m_asks_again = false;             // the command has ended since
  std::optional<SysError> m_lost_ending; // and when the command ended
};

Error cannot_supervise(const sys::Program& program, SysError cause)
{
  return {Reason::start_failed, program.file, cause};
}

// For the first step towards the tree's end; none if it will not be ended by us.
Result<std::optional<sys::Alarm>> first_alarm(const Supervision& how)
{
  if (!how.limit && how.external == nullptr) { return std::optional<sys::Alarm>(); }
  auto alarm = sys::Alarm::create(alarm_signal());
  if (!alarm) { return tl::unexpected(alarm.error()); }
  nanoseconds moment = how.limit ? how.limit->moment : nanoseconds::max();
  if (how.external != nullptr) { moment = std::min(moment, how.external->ask_at()); }
  if (const auto set = alarm->set(moment); !set) { return tl::unexpected(set.error()); }
  return std::optional<sys::Alarm>(std::move(*alarm));
}

} // namespace

int alarm_signal()
{
  return SIGRTMIN + 1;
}

sys::SignalSet signals_before_start()
{
  static constexpr sys::SignalSet k_fixed{
    SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH, SIGCHLD};
  sys::SignalSet signals = k_fixed;
  signals.add(alarm_signal());
  return signals;
}

sys::SignalSet supervised_signals()
{
  sys::SignalSet signals = signals_before_start();
  for (const int stopping : {SIGTSTP, SIGTTIN, SIGTTOU}) { signals.add(stopping); }
  return signals;
}

Error start_error(const char* file, SysError cause)
{
  const std::string_view call = cause.call;
  if (call != "execve") { return {Reason::start_failed, file, cause}; }
  return {cause.code == ENOENT ? Reason::not_found : Reason::not_executable, file, cause};
}

Result<Ending, Error> run(const sys::Program& program, const Supervision& supervision)
{
  (void)sys::block_signals(signals_before_start());
  // With SIGCHLD ignored the kernel would throw the status away (wait(2)); the command gets it back as it was.
  const auto on_child = sys::set_disposition(SIGCHLD, sys::Disposition::standard);
  if (!on_child) { return tl::unexpected(cannot_supervise(program, on_child.error())); }
  const bool needs_the_tree = supervision.until_tree_ends || supervision.limit || supervision.external != nullptr;
  auto tree = needs_the_tree || supervision.names_left_behind ? Tree::before_start() : Tree();
  if (!tree && needs_the_tree) { return tl::unexpected(cannot_supervise(program, tree.error())); }
  const bool names_left_behind = supervision.names_left_behind && tree;
  if (!tree) { tree = Tree(); }
  auto alarm = first_alarm(supervision);
  if (!alarm) { return tl::unexpected(cannot_supervise(program, alarm.error())); }
  sys::Program unchanged = program;
  unchanged.ignores_child = program.ignores_child || *on_child == sys::Disposition::ignored;
  if (const int signal = signal_against_start(program.mask); signal != 0) {
    return tl::unexpected(Error{Reason::called_off, program.file, {nullptr, signal}});
  }
  const auto started = sys::start(unchanged);
  const sys::SignalSet listened = supervised_signals();
  (void)sys::block_signals(listened);
  if (!started) { return tl::unexpected(cannot_supervise(program, started.error())); }
  Supervisor supervisor(started->pid(), supervision, *tree, *alarm ? &**alarm : nullptr);
  auto ending = supervisor.run(listened);
  if (const auto failure = started->failure()) { return tl::unexpected(start_error(program.file, *failure)); }
  if (!ending) { return tl::unexpected(Error{Reason::unknown_ending, program.file, ending.error()}); }
  if (names_left_behind) { ending->left_behind = tree->members().value_or(std::vector<sys::ProcessStatus>()); }
  return std::move(*ending);
}

Result<std::optional<Ending>, Error> keep_strangers_apart(const char* command)
{
  const auto failed = [&](SysError cause) { return tl::unexpected(Error{Reason::start_failed, command, cause}); };
  const pid_t us = sys::process_id();
  const bool has_children = sys::wait_child(0, WEXITED | WNOHANG | WNOWAIT).has_value(); // else ECHILD
  if (!has_children && us != 1) { return std::optional<Ending>(); }
  const auto on_child = sys::set_disposition(SIGCHLD, sys::Disposition::standard);
  if (!on_child) { return failed(on_child.error()); }
  const sys::SignalSet before = sys::block_signals(signals_before_start());
  const auto copy = sys::fork();
  if (!copy) { return failed(copy.error()); }
  if (*copy == 0) {
    if (const auto bound = sys::die_with_parent(); !bound) { return failed(bound.error()); }
    if (sys::parent_process() != us) { (void)sys::kill(sys::process_id(), SIGKILL); }
    if (const auto restored = sys::set_disposition(SIGCHLD, *on_child); !restored) { return failed(restored.error()); }
    (void)sys::set_signal_mask(before);
    return std::optional<Ending>();
  }
  const sys::SignalSet listened = supervised_signals();
  (void)sys::block_signals(listened);
  sys::set_process_name("lr-front"); // a signal to processes of the name lockrun is meant for the other one
  const Supervision how;
  Tree tree;
  Supervisor supervisor(*copy, how, tree, nullptr);
  const auto ending = supervisor.run(listened);
  if (!ending) { return tl::unexpected(Error{Reason::unknown_ending, command, ending.error()}); }
  return std::optional(*ending);
}

} // namespace lockrun::child
