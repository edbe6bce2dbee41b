#include "sys/process.hpp"

#include "support/process.hpp"

#include <csignal>
#include <cstdlib>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using sys::ChildChange;

TEST(WaitChild, HasNothingToTellOfOneThatRuns)
{
  Gate gate;
  Forked child([&] {
    gate.wait();
    return 0;
  });
  const auto nothing = sys::wait_child(child.pid(), WEXITED | WNOHANG);
  EXPECT_TRUE(nothing && !*nothing);
  gate.open();
  EXPECT_EQ(child.wait(), exited(0));
  EXPECT_EQ(sys::wait_child(0, WEXITED).error().code, ECHILD);
}

TEST(WaitChild, TellsThatItStoppedAndLeavesItIfAsked)
{
  Forked child([] { return ::raise(SIGSTOP); });
  const auto stopped = sys::wait_child(child.pid(), WEXITED | WSTOPPED);
  ASSERT_TRUE(stopped && *stopped);
  EXPECT_EQ((*stopped)->kind, ChildChange::Kind::stopped);
  EXPECT_EQ((*stopped)->value, SIGSTOP);
  child.signal(SIGCONT);
  const auto seen = sys::wait_child(0, WEXITED | WNOWAIT);
  ASSERT_TRUE(seen && *seen);
  EXPECT_EQ((*seen)->pid, child.pid());
  EXPECT_EQ(child.wait(), exited(0)); // it is still there
}

TEST(ProcessGroup, IsOurOwnOrAnothers)
{
  EXPECT_EQ(sys::process_group(0), ::getpgrp());
  EXPECT_EQ(sys::process_group(sys::process_id()), ::getpgrp());
  EXPECT_EQ(sys::process_group(-1).error().code, ESRCH);
}

TEST(Subreaper, GetsTheOrphans)
{
  Forked process([] {
    if (!sys::become_subreaper()) { return 1; }
    Gate gate;
    Pipe number;
    const Forked parent([&] {
      const pid_t orphan = ::fork();
      if (orphan == 0) {
        gate.wait();
        ::_exit(42);
      }
      return 0;
    });
    const auto first = sys::wait_child(parent.pid(), WEXITED);
    if (!first || (*first)->value != 0) { return 2; }
    gate.open();
    const auto second = sys::wait_child(0, WEXITED);
    ::_exit(second && (*second)->value == 42 ? 0 : 3); // without waiting for `parent` again
  });
  EXPECT_EQ(process.wait(), exited(0));
}

TEST(ExitNow, RunsNothingMore)
{
  Forked process([]() -> int {
    std::atexit([] { ::_exit(1); });
    sys::exit_now(5);
  });
  EXPECT_EQ(process.wait(), exited(5));
}

} // namespace
} // namespace lockrun::testing
