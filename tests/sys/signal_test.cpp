#include "sys/signal.hpp"

#include "support/eventually.hpp"
#include "support/notice.hpp"
#include "support/process.hpp"
#include "sys/process.hpp"
#include "sys/thread.hpp"

#include <cerrno>
#include <chrono>

#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using std::chrono::nanoseconds;
using sys::Disposition;

// Gives the test's own mask back.
class Signals : public ::testing::Test {
protected:
  ~Signals() override { (void)sys::set_signal_mask(m_before); }

private:
  sys::SignalSet m_before = sys::block_signals({});
};

TEST(SignalSet, ContainsWhatWasAdded)
{
  sys::SignalSet set{SIGTERM, SIGINT};
  EXPECT_TRUE(set.contains(SIGTERM));
  set.remove(SIGTERM);
  EXPECT_FALSE(set.contains(SIGTERM));
  EXPECT_TRUE(set.contains(SIGINT));
}

TEST(SignalSet, IsTheOneOfTheCLibrary)
{
  for (int signal = 1; signal < NSIG; ++signal) {
    sys::SignalSet set;
    EXPECT_TRUE(set.is_empty());
    set.add(signal);
    EXPECT_TRUE(set.contains(signal)) << signal;
    for (int each = 1; each < NSIG; ++each) {
      EXPECT_EQ(::sigismember(&set.raw(), each), each == signal ? 1 : 0) << each << " in the set of " << signal;
    }
    set.remove(signal);
    EXPECT_TRUE(set.is_empty()) << signal;
  }
}

TEST_F(Signals, MaskFunctionsReturnTheMaskBefore)
{
  (void)sys::unblock_signals({SIGUSR1, SIGUSR2});
  EXPECT_FALSE(sys::block_signals({SIGUSR1}).contains(SIGUSR1));
  EXPECT_TRUE(sys::unblock_signals({SIGUSR1}).contains(SIGUSR1));
  EXPECT_FALSE(sys::set_signal_mask({SIGUSR2}).contains(SIGUSR1));
  EXPECT_TRUE(sys::block_signals({}).contains(SIGUSR2));
}

TEST_F(Signals, OneIsWaitedForWithItsSender)
{
  (void)sys::block_signals({SIGUSR1});
  ASSERT_TRUE(sys::kill(sys::process_id(), SIGUSR1));
  const auto received = sys::wait_signal({SIGUSR1}, std::nullopt);
  ASSERT_TRUE(received && *received);
  EXPECT_EQ((*received)->number, SIGUSR1);
  EXPECT_EQ((*received)->origin, SI_USER);
  EXPECT_EQ((*received)->sender, sys::process_id());
}

TEST_F(Signals, NoneComesInTime)
{
  (void)sys::block_signals({SIGUSR1});
  for (const nanoseconds patience : {nanoseconds(0), nanoseconds(1'000)}) {
    const auto received = sys::wait_signal({SIGUSR1}, patience);
    EXPECT_TRUE(received && !*received);
  }
}

TEST_F(Signals, AnotherSignalsHandlerEndsTheWait)
{
  Notice ready;
  Forked waiter([&] {
    (void)sys::block_signals({SIGUSR1});
    (void)sys::set_interrupting(SIGUSR2);
    ready.give();
    const auto received = sys::wait_signal({SIGUSR1}, std::nullopt);
    return received && !*received ? 0 : 1;
  });
  ASSERT_TRUE(ready.await());
  ASSERT_TRUE(eventually([&] { return is_asleep(waiter.pid()); }));
  waiter.signal(SIGUSR2);
  EXPECT_EQ(waiter.wait(), exited(0));
}

TEST_F(Signals, ANegativePatienceIsTheKernelsError)
{
  const auto received = sys::wait_signal({SIGUSR1}, nanoseconds(-1));
  ASSERT_FALSE(received);
  EXPECT_EQ(received.error().code, EINVAL);
}

TEST(SignalDisposition, IsReadAndSet)
{
  EXPECT_EQ(sys::set_disposition(SIGUSR1, Disposition::ignored), Disposition::standard);
  EXPECT_EQ(sys::disposition(SIGUSR1), Disposition::ignored);
  const auto before = sys::set_interrupting(SIGUSR1);
  ASSERT_TRUE(before);
  EXPECT_EQ(sys::disposition(SIGUSR1), Disposition::handled);
  sys::restore_action(SIGUSR1, *before);
  EXPECT_EQ(sys::set_disposition(SIGUSR1, Disposition::standard), Disposition::ignored);
  EXPECT_EQ(sys::disposition(SIGUSR1), Disposition::standard);
}

TEST(SignalDisposition, OfKillCannotBeSet)
{
  EXPECT_EQ(sys::set_disposition(SIGKILL, Disposition::ignored).error().code, EINVAL);
  EXPECT_EQ(sys::set_interrupting(SIGKILL).error().code, EINVAL);
  EXPECT_EQ(sys::disposition(1000).error().code, EINVAL);
}

TEST_F(Signals, RestoringTheActionDropsOneThatIsPending)
{
  (void)sys::block_signals({SIGRTMIN});
  const auto before = sys::set_interrupting(SIGRTMIN);
  ASSERT_TRUE(before);
  ASSERT_TRUE(sys::kill_thread(sys::thread_id(), SIGRTMIN));
  sys::restore_action(SIGRTMIN, *before);
  (void)sys::unblock_signals({SIGRTMIN}); // the standard action would end us
  EXPECT_EQ(sys::disposition(SIGRTMIN), Disposition::standard);
}

TEST(Kill, FailsForNobody)
{
  Forked gone([] { return 0; });
  const pid_t pid = gone.pid();
  EXPECT_EQ(gone.wait(), exited(0));
  EXPECT_EQ(sys::kill(pid, 0).error().code, ESRCH);
  EXPECT_EQ(sys::kill_thread(pid, SIGUSR1).error().code, ESRCH);
}

} // namespace
} // namespace lockrun::testing
