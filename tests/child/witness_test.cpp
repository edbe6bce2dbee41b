#include "child/witness.hpp"

#include "support/eventually.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "sys/clock.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using namespace std::chrono_literals;
using child::Reach;
using child::Witness;

sys::SignalSet all_signals()
{
  sys::SignalSet all;
  ::sigfillset(&all.raw());
  return all;
}

// A process that is there until it is killed, and gets no signal that it does not want.
Forked bystander(bool in_our_group = true)
{
  Forked process([] {
    (void)sys::set_signal_mask(all_signals());
    for (;;) { ::pause(); }
    return 0;
  });
  if (!in_our_group && ::setpgid(process.pid(), 0) != 0) { std::abort(); }
  return process;
}

// What a supervisor does, in a process group of its own.
class Supervisor {
public:
  explicit Supervisor(bool in_our_group = true) : command(bystander(in_our_group)) {}

  void work_until(const std::function<bool()>& is_done)
  {
    while (!is_done()) {
      if (const auto verdict = witness.work(command.pid())) { verdicts.push_back(*verdict); }
    }
  }
  // Its name is the last thing that a helper takes on.
  static bool is_prepared(pid_t helper)
  {
    const auto status = sys::process_status(helper);
    return status && status->name == "signal-witness";
  }
  std::vector<pid_t> helpers() const
  {
    std::vector<pid_t> there;
    for (const pid_t helper : witness.processes()) {
      if (helper != 0) { there.push_back(helper); }
    }
    return there;
  }
  void await_helper()
  {
    work_until([&] {
      const auto there = helpers();
      return !there.empty() && std::all_of(there.begin(), there.end(), is_prepared);
    });
  }
  // Takes one that has come, and asks.
  void get(int signal)
  {
    const auto got = sys::wait_signal({signal}, std::nullopt);
    if (!got || !*got) { return; }
    if (const auto reach = witness.ask(**got)) { verdicts.push_back({**got, *reach}); }
  }
  Witness::Verdict next_verdict()
  {
    work_until([&] { return !verdicts.empty(); });
    const Witness::Verdict verdict = verdicts.front();
    verdicts.erase(verdicts.begin());
    return verdict;
  }
  bool has_reached_command(int signal)
  {
    get(signal);
    return child::has_reached(next_verdict().reach, command.pid());
  }
  void signal_each(int signal) const
  {
    (void)::kill(::getpid(), signal);
    for (const pid_t helper : helpers()) { (void)::kill(helper, signal); }
    (void)::kill(command.pid(), signal);
  }

  Forked command;
  Witness witness;
  std::vector<Witness::Verdict> verdicts;
};

// Runs `body` in a session of its own, with all signals blocked. It returns 0 for success.
void apart(const std::function<int()>& body)
{
  Forked process([&] {
    ::setsid();
    (void)sys::set_signal_mask(all_signals());
    return body();
  });
  EXPECT_EQ(process.wait(), exited(0));
}

TEST(Witness, IsOneProcessWhereTheCommandSharesOurGroup)
{
  for (const bool in_our_group : {true, false}) {
    apart([&] {
      Supervisor supervisor(in_our_group);
      if (!supervisor.helpers().empty()) { return 1; } // no call that is short makes one
      supervisor.await_helper();
      const auto there = supervisor.helpers();
      if (there.size() != 1) { return 2; }
      const auto status = sys::process_status(there.front());
      if (!status || status->parent != ::getpid()) { return 3; }
      return (::getpgid(there.front()) == ::getpgrp()) == in_our_group ? 0 : 4;
    });
  }
}

enum class To { us_alone, group, each };
struct Row {
  const char* name;
  To to;
  bool in_our_group;
  bool reached;
};
constexpr Row k_rows[] = {
  {"UsAlone", To::us_alone, true, false},
  {"UsAloneAndTheCommandIsInAGroupOfItsOwn", To::us_alone, false, false},
  {"OurGroup", To::group, true, true},
  {"OurGroupAndTheCommandIsInAGroupOfItsOwn", To::group, false, false},
  {"Each", To::each, true, true},
  {"EachAndTheCommandIsInAGroupOfItsOwn", To::each, false, true},
};
class ASignalTo : public ::testing::TestWithParam<Row> {};
TEST_P(ASignalTo, HasReachedTheCommandOrNot)
{
  const Row& row = GetParam();
  apart([&] {
    Supervisor supervisor(row.in_our_group);
    supervisor.await_helper();
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT}) {
      if (row.to == To::us_alone) { (void)::kill(::getpid(), signal); }
      if (row.to == To::group) { (void)::kill(0, signal); }
      if (row.to == To::each) { supervisor.signal_each(signal); }
      if (supervisor.has_reached_command(signal) != row.reached) { return signal; }
    }
    return 0;
  });
}
INSTANTIATE_TEST_SUITE_P(
  Table, ASignalTo, ::testing::ValuesIn(k_rows), [](const auto& row) { return std::string(row.param.name); });

// As a guardian does, which leaves the command's group.
TEST(Witness, StaysInAGroupThatWeLeave)
{
  Forked process([] {
    ::setpgid(0, 0);
    (void)sys::set_signal_mask(all_signals());
    const Forked command = bystander();
    const pid_t group = ::getpgrp();
    Forked guardian([&] {
      Witness witness(group);
      witness.make_in_group();
      ::setsid();
      const pid_t helper = witness.processes().front();
      if (!eventually([&] { return Supervisor::is_prepared(helper); })) { return 1; }
      for (const bool is_for_all : {false, true}) {
        if (is_for_all) { (void)::kill(-group, SIGTERM); }
        std::optional<Reach> reach = witness.ask({SIGTERM, SI_USER, 1}); // what another process has got
        while (!reach) {
          if (const auto verdict = witness.work(command.pid())) { reach = verdict->reach; }
        }
        if (child::has_reached(*reach, command.pid(), group) != is_for_all) { return 2; }
      }
      // Another one cannot be made: then each signal is for us alone.
      (void)::kill(helper, SIGKILL);
      if (!eventually([&] { return sys::process_status(helper)->state == 'Z'; })) { return 3; }
      (void)witness.work(command.pid());
      const auto reach = witness.ask({SIGTERM, SI_USER, 1});
      return reach && !child::has_reached(*reach, command.pid(), group) ? 0 : 4;
    });
    return guardian.wait() == exited(0) ? 0 : 1;
  });
  EXPECT_EQ(process.wait(), exited(0));
}

// timeout(1) does so.
TEST(Witness, TakesOneToUsAndOneToTheGroupAtOnceForOne)
{
  apart([] {
    Supervisor supervisor;
    supervisor.await_helper();
    (void)::kill(::getpid(), SIGTERM);
    supervisor.get(SIGTERM);
    (void)::kill(0, SIGTERM);
    supervisor.get(SIGTERM);
    if (!child::has_reached(supervisor.next_verdict().reach, supervisor.command.pid())) { return 1; }
    (void)::kill(::getpid(), SIGUSR1); // nothing is left of the other one when this is decided
    if (supervisor.has_reached_command(SIGUSR1)) { return 2; }
    return supervisor.verdicts.empty() ? 0 : 3;
  });
}

// And may have done both before we ask about the first one.
TEST(Witness, TakesThemForOneEvenIfItHasGotTheSecondBeforeItIsAsked)
{
  apart([] {
    Supervisor supervisor;
    supervisor.await_helper();
    (void)::kill(::getpid(), SIGTERM);
    const auto first = sys::wait_signal({SIGTERM}, std::nullopt);
    (void)::kill(0, SIGTERM);
    const auto reach = supervisor.witness.ask(**first);
    if (!reach || !child::has_reached(*reach, supervisor.command.pid())) { return 1; }
    return sys::pending_signals(::getpid())->contains(SIGTERM) ? 2 : 0; // our copy of the second one
  });
}

TEST(Witness, TellsDifferentSignalsApart)
{
  apart([] {
    Supervisor supervisor;
    supervisor.await_helper();
    (void)::kill(::getpid(), SIGTERM);
    (void)::kill(0, SIGINT);
    supervisor.get(SIGTERM);
    supervisor.get(SIGINT);
    for (int i = 0; i < 2; ++i) {
      const auto verdict = supervisor.next_verdict();
      const bool reached = child::has_reached(verdict.reach, supervisor.command.pid());
      if (reached != (verdict.signal.number == SIGINT)) { return verdict.signal.number; }
    }
    return 0;
  });
}

// Where processors are scarce, it may have taken its own long before we run.
TEST(Witness, KnowsOneForAllThatWeTakeLate)
{
  apart([] {
    Supervisor supervisor;
    supervisor.await_helper();
    for (;;) {
      const auto before = sys::steady_now();
      (void)::kill(0, SIGTERM);
      while (sys::steady_now() < before + 200ms) {}
      supervisor.get(SIGTERM);
      const bool is_later_than_meant = sys::steady_now() > before + 500ms;
      const bool reached = child::has_reached(supervisor.next_verdict().reach, supervisor.command.pid());
      if (!is_later_than_meant) { return reached ? 0 : 1; }
    }
  });
}

TEST(Witness, SeesEachSignalAfresh)
{
  apart([] {
    Supervisor supervisor;
    supervisor.await_helper();
    for (int i = 0; i < 10; ++i) {
      (void)::kill(0, SIGTERM);
      if (!supervisor.has_reached_command(SIGTERM)) { return 1; }
      supervisor.work_until([&] { return !sys::pending_signals(supervisor.helpers().front())->contains(SIGTERM); });
      (void)::kill(::getpid(), SIGTERM);
      if (supervisor.has_reached_command(SIGTERM)) { return 2; }
    }
    return 0;
  });
}

// A key, or the command's own.
TEST(Witness, IsNotMisledByASignalThatNobodyAsksAbout)
{
  apart([] {
    Supervisor supervisor;
    supervisor.await_helper();
    (void)::kill(0, SIGINT);
    (void)sys::wait_signal({SIGINT}, std::nullopt);
    supervisor.witness.disregard(SIGINT);
    supervisor.work_until([&] { return !sys::pending_signals(supervisor.helpers().front())->contains(SIGINT); });
    (void)::kill(::getpid(), SIGINT);
    return supervisor.has_reached_command(SIGINT) ? 1 : 0;
  });
}

TEST(Witness, DropsASignalThatStopsForOneThatContinues)
{
  apart([] {
    Supervisor supervisor;
    supervisor.await_helper();
    (void)::kill(::getpid(), SIGTSTP);
    supervisor.get(SIGTSTP);
    supervisor.witness.disregard(SIGCONT);
    (void)::kill(::getpid(), SIGTERM);
    supervisor.get(SIGTERM);
    return supervisor.next_verdict().signal.number == SIGTERM ? 0 : 1;
  });
}

TEST(Witness, ThatWasKilledIsReplaced)
{
  apart([] {
    Supervisor supervisor;
    supervisor.await_helper();
    const pid_t first = supervisor.helpers().front();
    (void)::kill(first, SIGKILL);
    (void)::kill(0, SIGTERM); // nobody can tell any more: it is passed on
    if (supervisor.has_reached_command(SIGTERM)) { return 1; }
    supervisor.work_until([&] { return !supervisor.helpers().empty() && supervisor.helpers().front() != first; });
    supervisor.await_helper();
    (void)::kill(0, SIGTERM);
    return supervisor.has_reached_command(SIGTERM) ? 0 : 2;
  });
}

TEST(Witness, ThatWasStoppedIsReplaced)
{
  apart([] {
    Supervisor supervisor;
    supervisor.await_helper();
    const pid_t first = supervisor.helpers().front();
    (void)::kill(first, SIGSTOP);
    (void)::kill(::getpid(), SIGTERM);
    if (supervisor.has_reached_command(SIGTERM)) { return 1; }
    supervisor.work_until([&] { return !supervisor.helpers().empty() && supervisor.helpers().front() != first; });
    return 0;
  });
}

TEST(Witness, FollowsACommandIntoAGroupOfItsOwn)
{
  apart([] {
    Supervisor supervisor;
    supervisor.await_helper();
    if (::setpgid(supervisor.command.pid(), 0) != 0) { return 1; }
    (void)::kill(0, SIGTERM);
    if (supervisor.has_reached_command(SIGTERM)) { return 2; }
    supervisor.work_until([&] { return supervisor.helpers().size() == 2; });
    supervisor.await_helper();
    supervisor.signal_each(SIGTERM);
    return supervisor.has_reached_command(SIGTERM) ? 0 : 3;
  });
}

// A control group, if we may make one.
class ControlGroup {
public:
  ControlGroup()
  {
    std::istringstream mounts(read_file("/proc/self/mounts"));
    for (std::string line; std::getline(mounts, line);) {
      std::istringstream words(line);
      std::string device;
      std::string where;
      std::string kind;
      words >> device >> where >> kind;
      if (kind != "cgroup2" && kind != "cgroup") { continue; }
      const std::string path = where + "/lockrun-test-" + std::to_string(::getpid());
      if (::mkdir(path.c_str(), 0755) != 0) { continue; }
      m_path = path;
      return;
    }
  }
  ~ControlGroup()
  {
    if (!m_path.empty()) {
      EXPECT_TRUE(eventually([&] { return ::rmdir(m_path.c_str()) == 0; }));
    }
  }
  bool take(pid_t process) const
  {
    const int fd = ::open((m_path + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC);
    const std::string number = std::to_string(process);
    const bool taken = ::write(fd, number.data(), number.size()) == static_cast<ssize_t>(number.size());
    ::close(fd);
    return taken;
  }
  bool exists() const { return !m_path.empty(); }

private:
  std::string m_path;
};

// systemd-run --scope makes such a command.
TEST(Witness, KnowsThatACommandIsInAnotherControlGroup)
{
  const ControlGroup elsewhere;
  if (!elsewhere.exists()) { GTEST_SKIP() << "no control group can be made"; }
  apart([&] {
    Supervisor supervisor;
    if (!elsewhere.take(supervisor.command.pid())) { return 1; }
    supervisor.await_helper();
    if (supervisor.helpers().size() != 2) { return 2; }
    (void)::kill(0, SIGTERM);
    if (!supervisor.has_reached_command(SIGTERM)) { return 3; }
    for (const pid_t each : supervisor.helpers()) { (void)::kill(each, SIGINT); }
    (void)::kill(::getpid(), SIGINT);
    return supervisor.has_reached_command(SIGINT) ? 4 : 0;
  });
}

TEST(Witness, ThatCannotBeMadeLeavesEachSignalToBePassedOnAtOnce)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root to become a user who has no other processes"; }
  apart([] {
    const uid_t user = lonely_user();
    if (::setgid(user) != 0 || ::setuid(user) != 0) { return 1; }
    Supervisor supervisor;
    const rlimit none{1, 1};
    if (::setrlimit(RLIMIT_NPROC, &none) != 0) { return 2; }
    while (supervisor.witness.due() > sys::steady_now()) {}
    const auto before = supervisor.witness.due();
    supervisor.work_until([&] { return supervisor.witness.due() != before; });
    if (!supervisor.helpers().empty()) { return 3; }
    (void)::kill(0, SIGTERM);
    return supervisor.has_reached_command(SIGTERM) ? 4 : 0;
  });
}

TEST(Witness, IsInNobodysWay)
{
  apart([] {
    Supervisor supervisor;
    supervisor.await_helper();
    const std::string process = "/proc/" + std::to_string(supervisor.helpers().front());
    if (!std::filesystem::is_empty(process + "/fd")) { return 1; }
    const std::string line = read_file(process + "/cmdline");
    if (line.substr(0, line.find('\0')) != "signal-witness" || line.find("test_child") != line.npos) { return 2; }
    (void)supervisor.command.kill();
    const auto change = sys::wait_child(0, WEXITED | WNOHANG);
    if (change || change.error().code != ECHILD) { return 3; } // waitid(2) sees no child
    (void)::kill(supervisor.helpers().front(), SIGKILL);
    supervisor.witness.end();
    return std::filesystem::exists(process) ? 4 : 0;
  });
}

TEST(Witness, SendsNoSignalWhenItEnds)
{
  apart([] {
    Supervisor supervisor;
    supervisor.await_helper();
    supervisor.witness.end();
    sigset_t pending;
    ::sigpending(&pending);
    return ::sigismember(&pending, SIGCHLD) == 0 ? 0 : 1;
  });
}

TEST(Witness, EndsWithUs)
{
  Pipe number;
  Forked owner([&] {
    (void)sys::set_signal_mask(all_signals());
    Supervisor supervisor(false);
    supervisor.await_helper();
    const pid_t helper = supervisor.helpers().front();
    (void)!::write(number.write_end, &helper, sizeof helper);
    for (;;) { ::pause(); }
    return 0;
  });
  pid_t helper = 0;
  ASSERT_EQ(::read(number.read_end, &helper, sizeof helper), static_cast<ssize_t>(sizeof helper));
  EXPECT_TRUE(std::filesystem::exists("/proc/" + std::to_string(helper)));
  (void)owner.kill();
  EXPECT_TRUE(eventually([&] {
    const auto status = sys::process_status(helper);
    return !status || status->state == 'Z' || status->name != "signal-witness";
  }));
}

} // namespace
} // namespace lockrun::testing
