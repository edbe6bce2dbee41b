#include "sys/thread.hpp"

#include "support/process.hpp"
#include "sys/process.hpp"
#include "sys/signal.hpp"

#include <cerrno>

#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

constexpr std::size_t k_stack = 64 * 1024;

TEST(Thread, RunsWithANumberOfItsOwnAndIsJoined)
{
  pid_t number = 0;
  const auto body = [](void* argument) -> void* {
    *static_cast<pid_t*>(argument) = sys::thread_id();
    return nullptr;
  };
  const auto thread = sys::start_thread(body, &number, k_stack);
  ASSERT_TRUE(thread);
  ASSERT_TRUE(sys::join(*thread));
  EXPECT_NE(number, 0);
  EXPECT_NE(number, sys::thread_id());
  EXPECT_EQ(sys::thread_id(), sys::process_id());
}

TEST(Thread, HasAtLeastTheStackThatTheMachineRequires)
{
  const auto body = [](void* argument) -> void* {
    pthread_attr_t attributes;
    ::pthread_getattr_np(::pthread_self(), &attributes);
    ::pthread_attr_getstacksize(&attributes, static_cast<std::size_t*>(argument));
    ::pthread_attr_destroy(&attributes);
    return nullptr;
  };
  std::size_t size = 0;
  const auto thread = sys::start_thread(body, &size, 1);
  ASSERT_TRUE(thread);
  ASSERT_TRUE(sys::join(*thread));
  EXPECT_GE(size, static_cast<std::size_t>(::sysconf(_SC_THREAD_STACK_MIN)));
}

TEST(Thread, InheritsTheSignalMask)
{
  const sys::SignalSet before = sys::block_signals({SIGUSR1});
  sys::SignalSet inherited;
  const auto body = [](void* argument) -> void* {
    *static_cast<sys::SignalSet*>(argument) = sys::block_signals({});
    return nullptr;
  };
  const auto thread = sys::start_thread(body, &inherited, k_stack);
  ASSERT_TRUE(thread);
  ASSERT_TRUE(sys::join(*thread));
  (void)sys::set_signal_mask(before);
  EXPECT_TRUE(inherited.contains(SIGUSR1));
  EXPECT_FALSE(inherited.contains(SIGUSR2));
}

TEST(Thread, IsNotJoinedBeforeItHasReturned)
{
  Pipe pipe;
  const auto body = [](void* argument) -> void* {
    char byte = 0;
    (void)!::read(static_cast<Pipe*>(argument)->read_end, &byte, 1); // end of file lets it go
    return nullptr;
  };
  const auto thread = sys::start_thread(body, &pipe, k_stack);
  ASSERT_TRUE(thread);
  EXPECT_EQ(sys::join_within(*thread, std::chrono::milliseconds(1)), sys::Joined::not_yet);
  pipe.close_write();
  EXPECT_EQ(sys::join_within(*thread, std::chrono::seconds(30)), sys::Joined::yes);
}

TEST(Thread, CannotStartWhereThereMayBeNone)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  Forked limited([] {
    hostile::limit(RLIMIT_NPROC, 0)();
    hostile::become_user(k_nobody)(); // root has no limit
    const auto thread = sys::start_thread([](void*) -> void* { return nullptr; }, nullptr, k_stack);
    return thread ? 0 : thread.error().code;
  });
  EXPECT_EQ(limited.wait(), exited(EAGAIN));
}

} // namespace
} // namespace lockrun::testing
