#include "child/twin.hpp"

#include "child/relay.hpp"
#include "sys/channel.hpp"
#include "sys/clock.hpp"

#include <array>
#include <span>

namespace lockrun::child {
namespace {

using std::chrono::nanoseconds;

// A guard that does not read is stopped, and will ask the kernel about us when it goes on.
void tell(const sys::Descriptor& guard, const Report& report)
{
  (void)sys::send(guard, std::as_bytes(std::span(&report, 1)));
}

class Tie final : public Leash {
public:
  Tie(const TwinTask& task, sys::Descriptor alarms, sys::Descriptor children)
    : m_task(task), m_alarms(std::move(alarms)), m_children(std::move(children))
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
  bool is_loose() const override { return !m_task.channel.is_open(); }
  Deadline& deadline() override { return m_task.deadline; }
  int signal() const override { return m_task.signal; }
  void command_started(pid_t command) override
  {
    m_command = command;
    tell(m_task.channel, {Report::Kind::started, command});
  }
  void command_stopped(int signal) override { tell(m_task.channel, {Report::Kind::stopped, m_command, signal}); }

  void witness_made(pid_t helper) override { tell(m_task.channel, {Report::Kind::witness_made, helper}); }

  // The guard ended before there was anything to be ended.
  bool lost_its_guard() const
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
      return sys::Signal{alarm_signal()};
    }
    if (order.kind == Order::Kind::pass_on) { return order.signal; }
    if (order.kind == Order::Kind::look) { return sys::Signal{alarm_signal()}; }
    return sys::Signal{SIGCONT}; // resume
  }

  const TwinTask& m_task;
  sys::Descriptor m_alarms;
  sys::Descriptor m_children;
  pid_t m_command = 0;
};

// Speaks for us, and lets the guard know what it has to act on.
class Spokesman final : public Observer {
public:
  explicit Spokesman(const TwinTask& task) : m_task(task) {}
  void overtime(const TimeLimit& limit) override { m_task.supervision.observer->overtime(limit); }
  void lease_ran_out() override { m_task.supervision.observer->lease_ran_out(); }
  void cannot_pass_on(int signal, const std::vector<sys::ProcessStatus>& command) override
  {
    m_task.supervision.observer->cannot_pass_on(signal, command);
  }
  void cannot_end(const std::vector<sys::ProcessStatus>& members) override
  {
    tell(m_task.channel, {Report::Kind::cannot_end});
    m_task.supervision.observer->cannot_end(members);
  }

private:
  const TwinTask& m_task;
};

Report report_of(const Result<Ending, Error>& ending)
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
  auto alarms = sys::signal_descriptor({alarm_signal()});
  if (!alarms) { return report_of(tl::unexpected(Error{Reason::start_failed, {}, alarms.error()})); }
  auto children = sys::signal_descriptor({SIGCHLD});
  if (!children) { return report_of(tl::unexpected(Error{Reason::start_failed, {}, children.error()})); }
  Tie tie(task, std::move(*alarms), std::move(*children));
  if (tie.lost_its_guard() || sys::elapsed_now() >= task.deadline.ask_at()) { return {Report::Kind::too_late}; }
  Spokesman spokesman(task);
  Supervision how = task.supervision;
  how.observer = &spokesman;
  how.leash = &tie;
  how.names_left_behind = false; // they fall to the guard, which names them
  return report_of(run(task.program, how));
}

} // namespace

void be_twin(const TwinTask& task)
{
  sys::set_process_name("lockrun-twin");
  tell(task.channel, supervise(task));
  sys::exit_now(0);
}

} // namespace lockrun::child
