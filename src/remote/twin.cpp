#include "remote/twin.hpp"

#include "child/signal_rules.hpp"
#include "child/terminator.hpp"
#include "remote/lease_connection.hpp"
#include "sys/channel.hpp"
#include "sys/clock.hpp"

#include <array>
#include <cerrno>
#include <span>
#include <string>
#include <vector>

namespace lockrun::remote {
namespace {

using std::chrono::nanoseconds;

// A kill of all processes whose name or command line has "lockrun" in it must not reach us, too.
constexpr const char* k_name = "lease-guardian";

// A guard that does not read is stopped, and will ask the kernel about us when it goes on. False: it is gone.
bool tell(const sys::Descriptor& guard, const Report& report)
{
  if (!guard.is_open()) { return false; }
  const auto sent = sys::send(guard, std::as_bytes(std::span(&report, 1)));
  return sent || sent.error().code != EPIPE;
}

// What the guard wants of the twin, and what it has to know.
class GuardChannel final : public child::ExternalControl {
public:
  GuardChannel(const TwinTask& task, sys::Descriptor alarms, sys::Descriptor children, sys::Descriptor gate)
    : m_task(task), m_alarms(std::move(alarms)), m_children(std::move(children)), m_gate(std::move(gate)),
      m_group(sys::process_group(0).value_or(0))
  {}

  Result<std::optional<sys::Signal>> wait(std::optional<nanoseconds> patience) override
  {
    const auto ready = sys::wait_readable({&m_alarms, &m_task.channel, &m_children}, patience);
    if (!ready) { return tl::unexpected(ready.error()); }
    // Children last: a tree that forks and forks must not keep us from what ends it.
    if ((*ready & 1U) != 0) { return sys::read_signal(m_alarms); }
    if ((*ready & 2U) != 0) { return obey(); }
    return (*ready & 4U) != 0 ? sys::read_signal(m_children) : std::optional<sys::Signal>();
  }
  bool is_gone() const override { return !m_task.channel.is_open(); }
  nanoseconds ask_at() const override { return m_task.clock.ask_at(); }
  nanoseconds kill_at() const override { return m_task.clock.kill_at(); }
  bool is_asked() const override { return m_task.clock.is_asked(); }
  bool claim_asking() override
  {
    if (!m_task.clock.claim_asking()) { return false; }
    if (!m_task.clock.is_reported() && !is_gone()) { m_task.lease.ran_out(); }
    return true;
  }
  int signal() const override { return m_task.signal; }
  pid_t group() const override { return m_group; }
  // The command has the guard's process group and session. We leave both before it begins: what kills all of the group
  // leaves us. In the same session the command would be the only one whose parent has another group, and at its end the
  // kernel would hang up on what is left of the group (setpgid(2), orphaned process groups). Fails for no child that is
  // as young as we are.
  void command_started(pid_t command) override
  {
    m_command = command;
    (void)sys::begin_session();
    constexpr std::array<std::byte, 1> k_open{};
    (void)sys::send(m_gate, k_open);
    (void)tell(m_task.channel, {Report::Kind::started, command});
  }
  void command_stopped(int signal) override { (void)tell(m_task.channel, {Report::Kind::stopped, m_command, signal}); }

  void witness_made(pid_t helper) override { (void)tell(m_task.channel, {Report::Kind::witness_made, helper}); }

  // The guard ended before there was anything to be ended.
  bool is_already_gone() const
  {
    std::array<std::byte, 1> none{};
    const auto count = sys::receive(m_task.channel, none);
    return count && *count == 0;
  }

private:
  // What the guard wants, as the signal that makes the supervisor do it.
  std::optional<sys::Signal> obey()
  {
    Order order;
    const auto count = sys::receive(m_task.channel, std::as_writable_bytes(std::span(&order, 1)));
    if (!count) { return std::nullopt; }
    if (*count == 0) {
      m_task.channel = sys::Descriptor();
      return sys::Signal{child::alarm_signal()};
    }
    if (order.kind == Order::Kind::pass_on) { return order.signal; }
    if (order.kind == Order::Kind::look) { return sys::Signal{child::alarm_signal()}; }
    return sys::Signal{SIGCONT}; // resume
  }

  const TwinTask& m_task;
  sys::Descriptor m_alarms;
  sys::Descriptor m_children;
  sys::Descriptor m_gate;
  pid_t m_group;
  pid_t m_command = 0;
};

// Speaks for us, and lets the guard know what it has to act on.
class TwinObserver final : public child::Observer {
public:
  explicit TwinObserver(const TwinTask& task) : m_task(task) {}
  void overtime(const child::TimeLimit& limit) override { m_task.supervision.observer->overtime(limit); }
  void cannot_pass_on(int signal, const std::vector<sys::ProcessStatus>& command) override
  {
    m_task.supervision.observer->cannot_pass_on(signal, command);
  }
  void cannot_end(const std::vector<sys::ProcessStatus>& members) override
  {
    (void)tell(m_task.channel, {Report::Kind::cannot_end});
    m_task.supervision.observer->cannot_end(members);
  }

private:
  const TwinTask& m_task;
};

// A program whose words are not where `ps` finds ours.
class CopiedProgram {
public:
  explicit CopiedProgram(const sys::Program& program) : m_program(program), m_file(program.file)
  {
    for (char* const* word = program.argv; *word != nullptr; ++word) { m_words.emplace_back(*word); }
    for (std::string& word : m_words) { m_argv.push_back(word.data()); }
    m_argv.push_back(nullptr);
    m_program.file = m_file.c_str();
    m_program.argv = m_argv.data();
  }
  CopiedProgram(const CopiedProgram&) = delete;
  CopiedProgram& operator=(const CopiedProgram&) = delete;
  const sys::Program& program() const noexcept { return m_program; }

private:
  sys::Program m_program;
  std::string m_file;
  std::vector<std::string> m_words;
  std::vector<char*> m_argv;
};

void await_end_of(const sys::Descriptor& guard)
{
  std::array<std::byte, sizeof(Order)> order{};
  for (;;) {
    const auto count = sys::receive(guard, order);
    if (count ? *count == 0 : count.error().code != EAGAIN) { return; }
    if (!count) { (void)sys::wait_readable({&guard}, std::nullopt); }
  }
}

// Ends what runs on after the command has ended.
void end_rest(const TwinTask& task)
{
  if (!child::reap_all()) { return; } // there is no tree
  const child::Tree tree;
  child::Terminator terminator(
    tree, [&](const std::vector<sys::ProcessStatus>& members) { task.supervision.observer->cannot_end(members); });
  terminator.use(task.supervision.control_group);
  terminator.begin_killing();
  for (child::SweepPause pause;;) {
    terminator.chase(child::reap_all);
    (void)terminator.kill();
    if (!child::reap_all()) { return; }
    (void)sys::wait_readable({}, pause.next());
  }
}

Report report_of(const Result<child::Ending, Error>& ending)
{
  Report report;
  if (!ending) {
    report.kind = Report::Kind::not_started;
    report.reason = ending.error().reason;
    report.cause = ending.error().cause;
    return report;
  }
  report.kind = Report::Kind::ended;
  report.how = ending->how;
  report.value = ending->value;
  report.needed_kill = ending->needed_kill;
  report.by_terminal = ending->by_terminal;
  return report;
}

Report supervise(const TwinTask& task)
{
  auto alarms = sys::signal_descriptor({child::alarm_signal()});
  if (!alarms) { return report_of(tl::unexpected(Error{Reason::start_failed, {}, alarms.error()})); }
  auto children = sys::signal_descriptor({SIGCHLD});
  if (!children) { return report_of(tl::unexpected(Error{Reason::start_failed, {}, children.error()})); }
  auto gate = sys::socket_pair(sys::SocketKind::packets);
  if (!gate) { return report_of(tl::unexpected(Error{Reason::start_failed, {}, gate.error()})); }
  const child::ControlGroup* const group = task.supervision.control_group;
  const sys::Bonds bonds{sys::process_id(), gate->theirs, group != nullptr ? &group->directory() : nullptr};
  sys::Program program = task.program;
  program.bonds = &bonds;
  GuardChannel guard(task, std::move(*alarms), std::move(*children), std::move(gate->ours));
  if (guard.is_already_gone() || sys::elapsed_now() >= task.clock.ask_at()) { return {Report::Kind::too_late}; }
  TwinObserver observer(task);
  child::Supervision how = task.supervision;
  how.observer = &observer;
  how.external = &guard;
  how.names_left_behind = false; // they fall to the guard, which names them
  return report_of(child::run(program, how));
}

} // namespace

void be_twin(const TwinTask& task)
{
  const CopiedProgram copy(task.program);
  sys::replace_command_line(k_name);
  const TwinTask ours{copy.program(), task.supervision, task.channel, task.clock, task.signal, task.lease};
  const Report last = supervise(ours);
  // The guard ends us before it gives the lock back itself.
  if (tell(task.channel, last)) { await_end_of(task.channel); }
  // It was killed. So was the command perhaps, with all of the process group, before we knew of either.
  end_rest(task);
  task.lease.release_unheard();
  if (task.supervision.control_group != nullptr) { task.supervision.control_group->remove(); }
  sys::exit_now(0);
}

} // namespace lockrun::remote
