#include "child/signal_rules.hpp"

#include "support/process.hpp"
#include "sys/signal.hpp"

#include <csignal>

#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

// A command in our process group or in one of its own, and a signal with this origin.
struct Row {
  const char* name;
  int number;
  int origin;
  bool sent_by_command;
  bool in_our_group;
  bool passed_on;
};
constexpr Row k_rows[] = {
  {"KilledInOurGroup", SIGTERM, SI_USER, false, true, true},
  {"KilledInItsGroup", SIGTERM, SI_USER, false, false, true},
  {"QueuedInOurGroup", SIGTERM, SI_QUEUE, false, true, true},
  {"ThreadDirected", SIGTERM, SI_TKILL, false, true, true},
  {"FromTheCommand", SIGTERM, SI_USER, true, true, false},
  {"FromTheCommandInItsGroup", SIGTERM, SI_USER, true, false, false},
  {"KeyInOurGroup", SIGINT, SI_KERNEL, false, true, false},
  {"KeyInItsGroup", SIGINT, SI_KERNEL, false, false, true},
  {"ContinueInOurGroup", SIGCONT, SI_USER, false, true, false},
  {"ContinueInItsGroup", SIGCONT, SI_USER, false, false, true},
};
class IsForCommand : public ::testing::TestWithParam<Row> {};
TEST_P(IsForCommand, AsTheTableSays)
{
  const Row& row = GetParam();
  Forked command([&] {
    ::pause();
    return 0;
  });
  if (!row.in_our_group) { ASSERT_EQ(::setpgid(command.pid(), 0), 0); }
  const sys::Signal signal{row.number, row.origin, row.sent_by_command ? command.pid() : 1};
  EXPECT_EQ(child::is_for_command(signal, command.pid()), row.passed_on);
  EXPECT_EQ(child::is_from_terminal(signal), row.origin == SI_KERNEL);
}
TEST_P(IsForCommand, NotWhenItIsIgnored)
{
  const Row& row = GetParam();
  const auto before = sys::set_disposition(row.number, sys::Disposition::ignored);
  ASSERT_TRUE(before);
  EXPECT_FALSE(child::is_for_command({row.number, row.origin, 1}, ::getpid()));
  ASSERT_TRUE(sys::set_disposition(row.number, sys::Disposition::standard));
}
// The kernel tells nobody else.
TEST(IsForCommandOfALeader, AHangUpOfTheTerminalToo)
{
  for (const bool leads : {false, true}) {
    Forked supervisor([&] {
      if (leads) { ::setsid(); }
      Forked command([] {
        ::pause();
        return 0;
      });
      if (child::is_for_command({SIGINT, SI_KERNEL, 0}, command.pid())) { return 2; }
      return child::is_for_command({SIGHUP, SI_KERNEL, 0}, command.pid()) == leads ? 0 : 1;
    });
    EXPECT_EQ(supervisor.wait(), exited(0));
  }
}
// What one of another process group got, who leads no session.
TEST(IsForCommandOfAnotherGroup, IsTheOthersBusiness)
{
  Forked command([] {
    ::pause();
    return 0;
  });
  const pid_t group = ::getpgrp();
  Forked supervisor([&] {
    ::setsid();
    if (child::shares_our_group(command.pid()) || !child::shares_our_group(command.pid(), group)) { return 1; }
    if (child::is_for_command({SIGHUP, SI_KERNEL, 0}, command.pid(), group)) { return 2; }
    if (child::is_for_command({SIGINT, SI_KERNEL, 0}, command.pid(), group)) { return 3; }
    if (child::is_for_command({SIGCONT, SI_USER, 1}, command.pid(), group)) { return 4; }
    if (!child::is_for_command({SIGINT, SI_KERNEL, 0}, command.pid())) { return 5; }
    if (child::has_reached({true, false, false}, command.pid())) { return 6; }
    return child::has_reached({true, false, false}, command.pid(), group) ? 0 : 7;
  });
  EXPECT_EQ(supervisor.wait(), exited(0));
}
INSTANTIATE_TEST_SUITE_P(
  Table, IsForCommand, ::testing::ValuesIn(k_rows), [](const auto& row) { return std::string(row.param.name); });

} // namespace
} // namespace lockrun::testing
