#include "lock/wait.hpp"

#include "support/eventually.hpp"
#include "support/process.hpp"
#include "sys/clock.hpp"
#include "sys/signal.hpp"
#include "sys/thread.hpp"

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <future>
#include <iterator>
#include <random>

#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using sys::Attempt;

constexpr auto k_for_ever = std::chrono::hours(1);

int threads()
{
  return static_cast<int>(std::distance(std::filesystem::directory_iterator("/proc/self/task"), {}));
}

// The first thread can bring others, as ThreadSanitizer's own.
int threads_after_one()
{
  const auto thread = sys::start_thread([](void*) -> void* { return nullptr; }, nullptr, 64 * 1024);
  EXPECT_TRUE(thread && sys::join(*thread));
  EXPECT_TRUE(eventually([] { return threads() <= 2; }));
  return threads();
}

// A call that blocks until a signal handler interrupts it, as a queue that does not move.
Result<Attempt> blocked_call()
{
  ::pause();
  return Attempt::interrupted;
}

sys::SignalSet current_mask()
{
  return sys::block_signals({});
}

// The numbers of its signals.
std::string text_of(const sys::SignalSet& set)
{
  std::string words;
  for (int signal = 1; signal <= SIGRTMAX; ++signal) {
    if (set.contains(signal)) { words += std::to_string(signal) + " "; }
  }
  return words;
}

std::string blocked()
{
  return text_of(current_mask());
}

std::string pending()
{
  sys::SignalSet set;
  ::sigpending(&set.raw());
  return text_of(set);
}

class WaitBlocking : public ::testing::Test {
protected:
  // Nothing of a wait may be left: no thread, no mask, no action, no pending signal.
  ~WaitBlocking() override
  {
    EXPECT_TRUE(eventually([&] { return threads() <= m_threads; })); // joined; the kernel may still tidy up
    EXPECT_EQ(blocked(), m_blocked);
    EXPECT_EQ(pending(), m_pending);
    EXPECT_EQ(sys::disposition(sys::wake_signal()), sys::Disposition::standard);
    (void)sys::set_signal_mask(m_mask);
  }

  Result<void, Error> wait(const BlockingCall& call, std::optional<nanoseconds> limit)
  {
    const nanoseconds now = sys::steady_now();
    const Patience patience{plan, now, limit ? Deadline(now + *limit) : Deadline()};
    return wait_blocking(call, patience, "target", Reason::lock_failed);
  }

  void end_by(const sys::SignalSet& signals)
  {
    plan.ended_by = signals.raw();
    (void)sys::block_signals(signals);
    m_blocked = blocked();
  }

  WaitPlan plan;

private:
  const sys::SignalSet m_mask = current_mask();
  const int m_threads = threads_after_one();
  std::string m_blocked = blocked();
  const std::string m_pending = pending();
};

TEST_F(WaitBlocking, SucceedsWhenTheCallDoes)
{
  EXPECT_TRUE(wait([] { return Attempt::acquired; }, std::nullopt));
  EXPECT_TRUE(wait([] { return Attempt::acquired; }, k_for_ever));
}

TEST_F(WaitBlocking, DoesNotLookAtTheTreeWhenTheAnswerComesSoon)
{
  plan.detect_deadlock = true;
  Patience patience{plan, {}, {}};
  patience.look_at_tree = []() -> TreeLook {
    ADD_FAILURE();
    return {};
  };
  EXPECT_TRUE(wait_blocking([] { return Attempt::acquired; }, patience, "target", Reason::lock_failed));
}

TEST_F(WaitBlocking, EndsWhenAnAncestorHasTheLock)
{
  plan.detect_deadlock = true;
  Patience patience{plan, {}, sys::steady_now() + k_for_ever};
  patience.look_at_tree = [] { return TreeLook{Party{4312, "holder", {}}, true}; };
  const auto waited = wait_blocking(blocked_call, patience, "target", Reason::lock_failed);
  ASSERT_FALSE(waited);
  EXPECT_EQ(waited.error().reason, Reason::nested);
  ASSERT_EQ(waited.error().parties.size(), 1U);
  EXPECT_EQ(waited.error().parties.front().pid, 4312);
}

TEST_F(WaitBlocking, LooksAtTheTreeOnceAndBeforeTheTimeIsUp)
{
  plan.detect_deadlock = true;
  int looks = 0;
  const nanoseconds now = sys::steady_now();
  Patience patience{plan, now, now + std::chrono::seconds(2)};
  patience.look_at_tree = [&] {
    ++looks;
    return TreeLook{};
  };
  const auto waited = wait_blocking(blocked_call, patience, "target", Reason::lock_failed);
  ASSERT_FALSE(waited);
  EXPECT_EQ(waited.error().reason, Reason::timed_out);
  EXPECT_EQ(looks, 1);
}

TEST_F(WaitBlocking, PassesOnWhatTheCallSays)
{
  EXPECT_EQ(wait([] { return Attempt::busy; }, std::nullopt).error().reason, Reason::busy);
  const auto failed = wait([]() -> Result<Attempt> { return tl::unexpected(SysError{"flock", ENOLCK}); }, k_for_ever);
  EXPECT_EQ(failed.error().reason, Reason::lock_failed);
  EXPECT_EQ(failed.error().cause.code, ENOLCK);
  EXPECT_EQ(failed.error().target, "target");
}

TEST_F(WaitBlocking, EndsAtTheDeadlineAndNotBefore)
{
  for (const nanoseconds limit : {nanoseconds(0), nanoseconds(1), nanoseconds(milliseconds(20))}) {
    const nanoseconds began = sys::steady_now();
    const auto waited = wait(blocked_call, limit);
    ASSERT_FALSE(waited);
    EXPECT_EQ(waited.error().reason, Reason::timed_out);
    EXPECT_GE(sys::steady_now() - began, limit);
  }
}

TEST_F(WaitBlocking, EndsAtADeadlineThatHasPassedAlready)
{
  EXPECT_EQ(wait(blocked_call, -milliseconds(5)).error().reason, Reason::timed_out);
}

TEST_F(WaitBlocking, EndsACallThatBlocksOnlyAfterTheFirstInterruption)
{
  const auto late = [] {
    const nanoseconds began = sys::steady_now();
    while (sys::steady_now() - began < milliseconds(10)) {} // several interruptions come now
    return blocked_call();
  };
  EXPECT_EQ(wait(late, nanoseconds(0)).error().reason, Reason::timed_out);
}

TEST_F(WaitBlocking, GrantedInTheMomentOfTheDeadlineIsGranted)
{
  const auto granted_late = [] {
    ::pause();
    return Attempt::acquired;
  };
  EXPECT_TRUE(wait(granted_late, milliseconds(1)));
}

TEST_F(WaitBlocking, CallsAgainAfterAnInterruptionThatNobodyMeant)
{
  const auto before = sys::set_interrupting(SIGUSR2);
  int calls = 0;
  const auto interrupted_once = [&]() -> Result<Attempt> {
    if (++calls == 1) {
      (void)sys::kill_thread(sys::thread_id(), SIGUSR2);
      return Attempt::interrupted;
    }
    if (calls == 2) { return tl::unexpected(SysError{"open", EINTR}); }
    return Attempt::acquired;
  };
  EXPECT_TRUE(wait(interrupted_once, k_for_ever));
  EXPECT_EQ(calls, 3);
  sys::restore_action(SIGUSR2, *before);
}

// --- signals ---

TEST_F(WaitBlocking, IsEndedByASignalThatWasPendingBefore)
{
  end_by({SIGTERM, SIGUSR1});
  ASSERT_TRUE(sys::kill(::getpid(), SIGUSR1));
  const auto waited = wait(blocked_call, k_for_ever);
  ASSERT_FALSE(waited);
  EXPECT_EQ(waited.error().reason, Reason::interrupted);
  EXPECT_EQ(waited.error().cause.code, SIGUSR1);
}

TEST_F(WaitBlocking, IsEndedByASignalThatComesWhileItBlocks)
{
  end_by({SIGTERM});
  const auto waited = wait(
    [] {
      (void)sys::kill(::getpid(), SIGTERM);
      return blocked_call();
    },
    std::nullopt);
  EXPECT_EQ(waited.error().cause.code, SIGTERM);
}

TEST_F(WaitBlocking, ObeysASignalEvenIfTheCallIsGrantedInThatMoment)
{
  end_by({SIGTERM});
  const auto waited = wait(
    [] {
      (void)sys::kill(::getpid(), SIGTERM);
      ::pause();
      return Attempt::acquired;
    },
    k_for_ever);
  ASSERT_FALSE(waited);
  EXPECT_EQ(waited.error().reason, Reason::interrupted);
}

TEST_F(WaitBlocking, PassesOverWhatIsIgnored)
{
  end_by({SIGUSR1, SIGTERM});
  ASSERT_TRUE(sys::set_disposition(SIGUSR1, sys::Disposition::ignored));
  const auto waited = wait(
    [] {
      (void)sys::kill(::getpid(), SIGUSR1);
      (void)sys::kill(::getpid(), SIGTERM);
      return blocked_call();
    },
    k_for_ever);
  EXPECT_EQ(waited.error().cause.code, SIGTERM);
  ASSERT_TRUE(sys::set_disposition(SIGUSR1, sys::Disposition::standard));
}

TEST_F(WaitBlocking, LeavesOtherSignalsPending)
{
  Forked process([&] {
    (void)sys::block_signals({SIGUSR2});
    (void)sys::kill(::getpid(), SIGUSR2);
    if (wait(blocked_call, milliseconds(1)).error().reason != Reason::timed_out) { return 1; }
    return pending() == std::to_string(SIGUSR2) + " " ? 0 : 2;
  });
  EXPECT_EQ(process.wait(), exited(0));
}

struct Inherited {
  const char* name;
  std::function<void()> hook;
};
class HostileInheritance : public ::testing::TestWithParam<Inherited> {};

TEST_P(HostileInheritance, MattersNeitherForTheDeadlineNorForWhatIsLeftAfterwards)
{
  Forked process([] {
    GetParam().hook();
    const std::string blocked_before = blocked();
    const auto action = *sys::disposition(sys::wake_signal());
    const WaitPlan plan;
    const nanoseconds now = sys::steady_now();
    const auto waited =
      wait_blocking(blocked_call, {plan, now, Deadline(now + milliseconds(5))}, "x", Reason::lock_failed);
    if (waited || waited.error().reason != Reason::timed_out) { return 1; }
    if (sys::disposition(sys::wake_signal()) != action) { return 2; }
    return blocked() == blocked_before && pending().empty() ? 0 : 3;
  });
  EXPECT_EQ(process.wait(), exited(0));
}

TEST_P(HostileInheritance, MattersNotForWhatIsGranted)
{
  Forked process([] {
    GetParam().hook();
    const WaitPlan plan;
    const nanoseconds now = sys::steady_now();
    const auto granted = [] { return Attempt::acquired; };
    return wait_blocking(granted, {plan, now, Deadline(now + std::chrono::hours(1))}, "x", Reason::lock_failed) ? 0 : 1;
  });
  EXPECT_EQ(process.wait(), exited(0));
}

INSTANTIATE_TEST_SUITE_P(Table, HostileInheritance,
  ::testing::Values(Inherited{"AlarmIgnored", hostile::ignore(SIGALRM)},
    Inherited{"AlarmBlocked", hostile::block(SIGALRM)}, Inherited{"ChildIgnored", hostile::ignore(SIGCHLD)},
    Inherited{"ChildBlocked", hostile::block(SIGCHLD)}, Inherited{"OurOwnIgnored", hostile::ignore(sys::wake_signal())},
    Inherited{"OurOwnBlocked", hostile::block(sys::wake_signal())},
    Inherited{"EverythingBlocked",
      [] {
        sigset_t all;
        ::sigfillset(&all);
        ::sigprocmask(SIG_SETMASK, &all, nullptr);
      }},
    Inherited{"FewDescriptors", hostile::limit(RLIMIT_NOFILE, 4)},
    Inherited{"NoSignalIsQueued", hostile::limit(RLIMIT_SIGPENDING, 0)}),
  [](const auto& row) { return row.param.name; });

// --- the observer ---

class Looker : public WaitObserver {
public:
  explicit Looker(nanoseconds every) : m_every(every) {}
  nanoseconds look(nanoseconds waited) override
  {
    EXPECT_GE(waited, last);
    last = waited;
    thread = sys::thread_id();
    ++looks;
    return m_every;
  }
  void stuck(const Error& reason) override
  {
    EXPECT_EQ(reason.reason, Reason::timed_out);
    ++told;
  }
  std::atomic<int> looks{0};
  std::atomic<int> told{0};
  std::atomic<pid_t> thread{0};
  nanoseconds last{0};

private:
  nanoseconds m_every;
};

TEST_F(WaitBlocking, LetsTheObserverLookWithoutInterruptingTheCall)
{
  Looker looker(nanoseconds(1));
  plan.observer = &looker;
  int calls = 0;
  const auto call = [&] {
    ++calls;
    EXPECT_TRUE(eventually([&] { return looker.looks >= 5; }));
    return Attempt::acquired;
  };
  EXPECT_TRUE(wait(call, k_for_ever));
  EXPECT_EQ(calls, 1);
  EXPECT_NE(looker.thread, sys::thread_id());
  EXPECT_EQ(looker.told, 0);
}

TEST_F(WaitBlocking, KeepsTheDeadlineWithAnObserverThatLooksRarely)
{
  Looker looker(k_for_ever);
  plan.observer = &looker;
  EXPECT_EQ(wait(blocked_call, milliseconds(5)).error().reason, Reason::timed_out);
  EXPECT_LE(looker.looks, 1); // none when the machine let the deadline pass first
}

TEST_F(WaitBlocking, TellsOnceWhenTheKernelDoesNotLetGo)
{
  Looker looker(k_for_ever);
  plan.observer = &looker;
  const auto stubborn = [&] {
    EXPECT_TRUE(eventually([&] { return looker.told > 0; }));
    return Attempt::interrupted;
  };
  EXPECT_EQ(wait(stubborn, nanoseconds(0)).error().reason, Reason::timed_out);
  EXPECT_EQ(looker.told, 1);
}

// --- all of it at once, over and over ---

TEST_F(WaitBlocking, LosesNoWakeUpInThousandsOfRounds)
{
  std::minstd_rand random(1);
  int granted = 0;
  int gave_up = 0;
  for (int round = 0; round < 3000; ++round) {
    const auto answer_after = microseconds(random() % 60);
    const auto limit = microseconds(random() % 60);
    Looker looker(microseconds(1));
    plan.observer = round % 2 == 0 ? &looker : nullptr;
    const auto call = [&] {
      const nanoseconds began = sys::steady_now();
      while (sys::steady_now() - began < answer_after) {}
      return round % 3 == 0 ? Attempt::acquired : *blocked_call();
    };
    const auto waited = wait(call, limit);
    (waited ? granted : gave_up) += 1;
    if (round % 3 == 0) { EXPECT_TRUE(waited); }
  }
  EXPECT_GT(granted, 0);
  EXPECT_GT(gave_up, 0);
}

// --- where there can be no thread ---

class WithoutThreads : public ::testing::TestWithParam<Inherited> {
protected:
  void SetUp() override
  {
    if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  }

  // Runs it as a user who may have no more threads.
  static void run(const std::function<bool()>& body)
  {
    Forked limited([&] {
      hostile::limit(RLIMIT_NPROC, 0)();
      GetParam().hook();
      hostile::become_user(k_nobody)();
      const std::string blocked_before = blocked();
      if (!body()) { return 1; }
      if (sys::disposition(sys::wake_signal()) != sys::Disposition::standard) { return 2; }
      if (sys::disposition(SIGTERM) != sys::Disposition::standard) { return 3; }
      if (sys::disposition(SIGALRM) != sys::Disposition::standard) { return 4; }
      return blocked() == blocked_before ? 0 : 5;
    });
    EXPECT_EQ(limited.wait(), exited(0));
  }
};

TEST_P(WithoutThreads, IsGranted)
{
  run([] {
    const WaitPlan plan;
    const auto granted = [] { return Attempt::acquired; };
    const nanoseconds now = sys::steady_now();
    return wait_blocking(granted, {plan, now, now + k_for_ever}, "x", Reason::lock_failed).has_value();
  });
}

TEST_P(WithoutThreads, EndsAtTheDeadlineAndNotBefore)
{
  run([] {
    const WaitPlan plan;
    for (const milliseconds limit : {milliseconds(-1), milliseconds(0), milliseconds(30)}) {
      const nanoseconds end = sys::steady_now() + limit;
      const auto waited = wait_blocking(blocked_call, {plan, {}, end}, "x", Reason::lock_failed);
      if (waited || waited.error().reason != Reason::timed_out || sys::steady_now() < end) { return false; }
    }
    return true;
  });
}

TEST_P(WithoutThreads, EndsAnUninterruptedCallThatBlocksLate)
{
  run([] {
    const WaitPlan plan;
    const auto late = [] {
      const nanoseconds began = sys::steady_now();
      while (sys::steady_now() - began < milliseconds(10)) {}
      return blocked_call();
    };
    const auto waited = wait_blocking(late, {plan, {}, sys::steady_now()}, "x", Reason::lock_failed);
    return !waited && waited.error().reason == Reason::timed_out;
  });
}

TEST_P(WithoutThreads, IsEndedByASignalBeforeAndDuringTheCall)
{
  run([] {
    WaitPlan plan;
    const sys::SignalSet ending{SIGTERM, SIGINT};
    plan.ended_by = ending.raw();
    for (const bool is_pending : {true, false}) {
      const sys::SignalSet before = sys::block_signals(ending);
      if (is_pending) { (void)sys::kill(::getpid(), SIGTERM); }
      const auto call = [&] {
        if (!is_pending) { (void)sys::kill(::getpid(), SIGTERM); }
        return blocked_call(); // the handler has run by now, so only the timer can end this
      };
      const auto waited = wait_blocking(call, {plan, {}, {}}, "x", Reason::lock_failed);
      (void)sys::set_signal_mask(before);
      if (waited || waited.error().reason != Reason::interrupted || waited.error().cause.code != SIGTERM) {
        return false;
      }
    }
    return true;
  });
}

TEST_P(WithoutThreads, LooksAtItsAncestorsFirst)
{
  run([] {
    WaitPlan plan;
    plan.detect_deadlock = true;
    Patience patience{plan, {}, {}};
    patience.look_at_tree = [] { return TreeLook{Party{4312, "holder", {}}, true}; };
    const auto waited = wait_blocking(blocked_call, patience, "x", Reason::lock_failed);
    return !waited && waited.error().reason == Reason::nested && waited.error().target == "x";
  });
}

INSTANTIATE_TEST_SUITE_P(Table, WithoutThreads,
  ::testing::Values(Inherited{"OnlyThat", [] {}}, Inherited{"NorQueuedSignals", hostile::limit(RLIMIT_SIGPENDING, 0)},
    Inherited{"AlarmBlockedAndNoQueuedSignals",
      [] {
        hostile::limit(RLIMIT_SIGPENDING, 0)();
        hostile::block(SIGALRM)();
      }}),
  [](const auto& row) { return row.param.name; });

// --- where nothing lets go ---

TEST_F(WaitBlocking, EndsWithoutAWordWhenTheWordsTakeTooLong)
{
  class Silent final : public WaitObserver {
  public:
    bool talks() const override { return false; }
    nanoseconds look(nanoseconds) override { return k_for_ever; }
    void stuck(const Error&) override
    {
      EXPECT_TRUE(eventually([&] { return has_ended.load(); }));
    }
    void end_now(const Error& reason) override
    {
      EXPECT_EQ(reason.reason, Reason::timed_out);
      has_ended = true;
    }
    std::atomic<bool> has_ended{false};
  };
  Silent observer;
  plan.observer = &observer;
  const auto stubborn = [&] {
    EXPECT_TRUE(eventually([&] { return observer.has_ended.load(); }));
    return Attempt::interrupted;
  };
  EXPECT_EQ(wait(stubborn, nanoseconds(0)).error().reason, Reason::timed_out);
}

TEST_F(WaitBlocking, IsNotKeptByALookThatDoesNotEnd)
{
  class Slow final : public WaitObserver {
  public:
    nanoseconds look(nanoseconds) override
    {
      has_looked = true;
      EXPECT_TRUE(eventually([&] { return has_ended.load(); }));
      return k_for_ever;
    }
    void stuck(const Error& reason) override
    {
      EXPECT_EQ(reason.reason, Reason::timed_out);
      has_ended = true;
    }
    std::atomic<bool> has_looked{false};
    std::atomic<bool> has_ended{false};
  };
  EXPECT_TRUE(eventually([&] { // its thread may have no processor before the time is up
    Slow observer;
    plan.observer = &observer;
    EXPECT_EQ(wait(blocked_call, milliseconds(300)).error().reason, Reason::timed_out);
    EXPECT_TRUE(observer.has_ended || !observer.has_looked);
    return observer.has_looked.load();
  }));
}

// Two threads of one program wait, and the one that is done first leaves the other its means.
TEST(Wait, OfTwoThreadsAtATimeKeepsEachLimit)
{
  const WaitPlan plan;
  std::atomic<bool> is_first_done{false};
  const auto late = [&] {
    EXPECT_TRUE(eventually([&] { return is_first_done.load(); }));
    return blocked_call();
  };
  auto second = std::async(std::launch::async, [&] {
    const nanoseconds now = sys::steady_now();
    return wait_blocking(late, {plan, now, now + milliseconds(50)}, "x", Reason::lock_failed);
  });
  const nanoseconds now = sys::steady_now();
  EXPECT_FALSE(wait_blocking(blocked_call, {plan, now, now + milliseconds(10)}, "x", Reason::lock_failed));
  is_first_done = true;
  EXPECT_EQ(second.get().error().reason, Reason::timed_out);
}

} // namespace
} // namespace lockrun::testing
