#include "remote/guard.hpp"

#include "child/signal_rules.hpp"
#include "child/terminator.hpp"
#include "remote/twin.hpp"
#include "sys/channel.hpp"
#include "sys/clock.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include <sys/wait.h>

namespace lockrun::remote {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// The twin asks the tree to end; if it has not done so by then, it is stopped.
constexpr milliseconds k_twins_turn{20};
constexpr int k_news_at_a_time = 100;

// Which process ends the tree, and whether it is being killed.
enum class Phase {
  watching, // the twin supervises it
  helping,  // the time to kill has come: we kill as well, as the twin may be stopped
  alone,    // the twin has ended, and what was its job is ours: to kill, and to reap
};

// Members that even SIGKILL does not end: while they run, the lock is not released, and once it is lost not at all.
enum class Unkillable { none, found, lock_abandoned };

// The guard's event loop.
class GuardLoop {
public:
  GuardLoop(pid_t twin, sys::Descriptor channel, sys::Descriptor signals, sys::Alarm alarm,
    const child::Supervision& how, LeaseClock clock, int polite_signal, child::Tree& tree, LeaseConnection& lease)
    : m_twin(twin), m_channel(std::move(channel)), m_signals(std::move(signals)), m_alarm(std::move(alarm)), m_how(how),
      m_clock(clock), m_polite_signal(polite_signal), m_tree(tree), m_lease(lease)
  {
    m_terminator.emplace(tree, [](const auto&) {}); // the twin complains
    m_terminator->use(how.control_group);
  }

  // What the twin said at last; `ended`, if it could not.
  Report run()
  {
    set_alarm();
    Backlog backlog = Backlog::none;
    while (!m_result) {
      const auto ready = sys::wait_readable({&m_signals, &m_channel, &m_lease.source()}, patience(backlog));
      // Read before the news: a renewal that was waiting for us while we were stopped came too late.
      const nanoseconds now = sys::elapsed_now();
      if (!ready) { continue; }
      backlog = hear_lease(now);
      hear_twin();
      hear_signals();
      act_on_clock(now);
    }
    end_twin();
    return *m_result;
  }

private:
  enum class Backlog { none, left }; // of news

  std::optional<nanoseconds> patience(Backlog backlog)
  {
    if (backlog == Backlog::left) { return nanoseconds(0); }
    if (m_phase == Phase::watching) { return std::nullopt; }
    return m_pause.next();
  }

  Backlog hear_lease(nanoseconds now)
  {
    for (int i = 0; m_lease.source().is_open(); ++i) {
      // An engine that talks and talks must not keep us from everything else.
      if (i == k_news_at_a_time) { return Backlog::left; }
      const LeaseConnection::News news = m_lease.news();
      switch (news.kind) {
      case LeaseConnection::News::Kind::none:
        return Backlog::none;
      case LeaseConnection::News::Kind::other:
        break;
      case LeaseConnection::News::Kind::renewed:
        // Were we killed now, a stopped twin could not end the tree: both of us are needed for more time.
        if (!is_stopped(m_twin)) { m_clock.renew(news.deadline, now); }
        break;
      case LeaseConnection::News::Kind::lost:
        m_clock.lose(news.deadline, now);
        order({Order::Kind::look});
      }
    }
    return Backlog::none;
  }

  void order(const Order& order)
  {
    // A twin that does not read is stopped: it looks at the deadline when it goes on, and signals for its command come
    // to nothing.
    if (m_channel.is_open()) { (void)sys::send(m_channel, std::as_bytes(std::span(&order, 1))); }
  }

  void hear_twin()
  {
    while (m_channel.is_open() && !m_result) {
      Report report;
      const auto count = sys::receive(m_channel, std::as_writable_bytes(std::span(&report, 1)));
      if (!count) { return; }
      if (*count == 0) { return lose_twin(); }
      switch (report.kind) {
      case Report::Kind::started:
        (void)sys::block_signals(child::supervised_signals());
        break;
      case Report::Kind::stopped:
        // Not if both of us were stopped by the same key and have been continued.
        if (is_stopped(report.process) && child::stop_beside(report.process, report.signal)) {
          order({Order::Kind::resume});
        }
        break;
      case Report::Kind::witness_made:
        m_tree.leave_out(report.process);
        break;
      case Report::Kind::cannot_end:
        find_unkillable();
        break;
      default:
        m_result = report;
      }
    }
  }

  void find_unkillable()
  {
    if (m_unkillable == Unkillable::none) { m_unkillable = Unkillable::found; }
  }

  // Everything that it had falls to us.
  void lose_twin()
  {
    m_phase = Phase::alone;
    m_channel = sys::Descriptor();
    (void)sys::wait_child(m_twin, WEXITED); // closing the channel was one of its last deeds
    m_tree.reach_through(0);
    m_twin = 0;
    m_terminator.emplace(m_tree, [this](const std::vector<sys::ProcessStatus>& members) {
      find_unkillable();
      m_how.observer->cannot_end(members);
    });
    m_terminator->use(m_how.control_group);
    begin_killing();
  }

  void hear_signals()
  {
    for (;;) {
      auto signal = sys::read_signal(m_signals);
      if (!signal || !*signal) { return; }
      if ((*signal)->number == child::alarm_signal()) { continue; } // the clock is looked at anyway
      if ((*signal)->number == SIGCHLD) { continue; }
      // The twin, which leads no session, must not take it for one that the command has got too.
      if (child::is_hangup_for_leader(**signal)) { (*signal)->origin = SI_USER; }
      order({Order::Kind::pass_on, **signal});
    }
  }

  void act_on_clock(nanoseconds now)
  {
    if (m_phase != Phase::watching) {
      kill();
    } else if (now >= m_clock.kill_at()) {
      (void)claim_asking();
      m_phase = Phase::helping;
      begin_killing();
    } else if (!m_clock.is_asked() && now >= m_clock.ask_at() + k_twins_turn) {
      if (claim_asking()) { (void)m_terminator->ask(m_polite_signal); }
    }
    if (m_unkillable == Unkillable::found && m_clock.is_asked()) {
      m_unkillable = Unkillable::lock_abandoned;
      m_lease.abandon();
    }
    if (m_phase == Phase::watching) { set_alarm(); }
  }

  // Whether it was for us to ask.
  bool claim_asking()
  {
    if (!m_clock.claim_asking()) { return false; }
    if (!m_clock.is_reported()) { m_lease.ran_out(); }
    return true;
  }

  void begin_killing()
  {
    m_pause.reset();
    m_terminator->begin_killing();
    kill();
  }

  void kill()
  {
    if (m_phase == Phase::helping) {
      (void)m_terminator->kill();
      if (is_stopped(m_twin)) { (void)sys::kill(m_twin, SIGKILL); } // what is left of the tree falls to us then
      return;
    }
    m_terminator->chase(child::reap_all);
    (void)m_terminator->kill();
    (void)child::reap_all();
    const auto members = m_tree.members();
    if (!m_tree.children().empty() || !members || !members->empty()) { return; }
    Report report{Report::Kind::ended};
    report.how = m_clock.is_asked() ? child::Ending::How::lost : child::Ending::How::killed;
    report.value = SIGKILL;
    report.needed_kill = true;
    m_result = report;
  }

  static bool is_stopped(pid_t pid)
  {
    const auto status = sys::process_status(pid);
    return status && (status->state == 'T' || status->state == 't');
  }

  void set_alarm()
  {
    const nanoseconds next =
      m_clock.is_asked() ? m_clock.kill_at() : std::min(m_clock.ask_at() + k_twins_turn, m_clock.kill_at());
    (void)m_alarm.set(next);
  }

  // It has said its last word; if it was stopped on the way out, it goes all the same.
  void end_twin() const
  {
    if (m_phase == Phase::alone) { return; }
    (void)sys::kill(m_twin, SIGKILL);
    (void)sys::wait_child(m_twin, WEXITED);
  }

  pid_t m_twin; // 0: it has ended
  sys::Descriptor m_channel;
  sys::Descriptor m_signals;
  sys::Alarm m_alarm;
  const child::Supervision& m_how;
  LeaseClock m_clock;
  int m_polite_signal;
  child::Tree& m_tree;
  LeaseConnection& m_lease;
  std::optional<child::Terminator> m_terminator;
  std::optional<Report> m_result;
  Phase m_phase = Phase::watching;
  Unkillable m_unkillable = Unkillable::none;
  child::SweepPause m_pause;
};

// What the twin said at last, as child::run() would return it.
Result<child::Ending, Error> ending_of(const Report& last, const char* file)
{
  if (last.kind == Report::Kind::too_late) { return tl::unexpected(Error{Reason::lost, file}); }
  if (last.kind == Report::Kind::not_started) { return tl::unexpected(Error{last.reason, file, last.cause}); }
  return child::Ending{last.how, last.value, last.needed_kill, last.by_terminal, {}};
}

} // namespace

Result<Guard> Guard::prepare()
{
  (void)sys::block_signals(child::signals_before_start());
  const auto on_child = sys::set_disposition(SIGCHLD, sys::Disposition::standard);
  if (!on_child) { return tl::unexpected(on_child.error()); }
  auto tree = child::Tree::before_start();
  if (!tree) { return tl::unexpected(tree.error()); }
  return Guard(std::move(*tree), *on_child == sys::Disposition::ignored);
}

Result<child::Ending, Error> Guard::run(const sys::Program& program, const child::Supervision& supervision,
  const LeaseTerms& terms, int polite_signal, LeaseConnection& lease)
{
  const auto failed = [&](SysError cause) { return tl::unexpected(Error{Reason::start_failed, program.file, cause}); };
  auto clock = LeaseClock::create(terms);
  if (!clock) { return failed(clock.error()); }
  if (sys::elapsed_now() >= clock->ask_at()) { return tl::unexpected(Error{Reason::lost, program.file}); }
  if (const int signal = child::signal_against_start(program.mask); signal != 0) {
    return tl::unexpected(Error{Reason::called_off, program.file, {nullptr, signal}});
  }
  auto signals = sys::signal_descriptor(child::supervised_signals());
  if (!signals) { return failed(signals.error()); }
  auto channel = sys::socket_pair(sys::SocketKind::packets);
  if (!channel) { return failed(channel.error()); }
  auto alarm = sys::Alarm::create(child::alarm_signal());
  if (!alarm) { return failed(alarm.error()); }
  const auto control_group = child::ControlGroup::make();
  child::Supervision how = supervision;
  how.control_group = control_group ? &*control_group : nullptr;
  const auto twin = sys::fork();
  if (!twin) { return failed(twin.error()); }
  if (*twin == 0) {
    *signals = sys::Descriptor();
    channel->ours = sys::Descriptor();
    sys::Program unchanged = program;
    unchanged.ignores_child = m_ignores_child;
    be_twin({unchanged, how, channel->theirs, *clock, polite_signal, lease});
  }
  channel->theirs = sys::Descriptor();
  m_tree.reach_through(*twin);
  GuardLoop loop(
    *twin, std::move(channel->ours), std::move(*signals), std::move(*alarm), how, *clock, polite_signal, m_tree, lease);
  const Report last = loop.run();
  if (control_group) { control_group->remove(); }
  m_tree.reach_through(0);
  auto ending = ending_of(last, program.file);
  if (ending && supervision.names_left_behind) {
    ending->left_behind = m_tree.members().value_or(std::vector<sys::ProcessStatus>());
  }
  return ending;
}

} // namespace lockrun::remote
