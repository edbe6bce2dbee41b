#include "sys/process.hpp"

#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
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

// --- Helpers

TEST(ForkUnnoticed, MakesAChildThatOnlyWhoKnowsOfItWaitsFor)
{
  Forked parent([] {
    sigset_t child_signal;
    ::sigemptyset(&child_signal);
    ::sigaddset(&child_signal, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &child_signal, nullptr);
    const auto child = sys::fork_unnoticed();
    if (!child) { return 1; }
    if (*child == 0) { sys::exit_now(7); }
    const auto change = sys::wait_child(*child, WEXITED | __WALL | WNOWAIT);
    if (!change || !*change || (*change)->value != 7) { return 2; }
    const auto any = sys::wait_child(0, WEXITED | WNOHANG);
    if (any || any.error().code != ECHILD) { return 3; }
    sigset_t pending;
    ::sigpending(&pending);
    return ::sigismember(&pending, SIGCHLD) == 0 ? 0 : 4;
  });
  EXPECT_EQ(parent.wait(), exited(0));
}

// Makes the kernel say that it has no such call.
bool lose_call(int number)
{
  sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program{4, code};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

TEST(CloseAllDescriptors, LeavesNone)
{
  for (const bool has_call : {true, false}) {
    Forked process([&] {
      for (int number = 100; number < 400; ++number) { ::dup2(STDERR_FILENO, number); }
      if (!has_call && !lose_call(SYS_close_range)) { return 2; }
      if (!sys::close_all_descriptors()) { return 3; }
      for (int number = 0; number < 500; ++number) {
        if (::fcntl(number, F_GETFD) >= 0) { return 4; }
      }
      return 0;
    });
    EXPECT_EQ(process.wait(), exited(0)) << has_call;
  }
}

TEST(ReplaceCommandLine, LeavesNothingOfTheFormerOne)
{
  const Notice done;
  const Notice end;
  Forked process([&] {
    sys::replace_command_line("another");
    done.give();
    end.wait();
    return 0;
  });
  done.wait();
  const std::string path = "/proc/" + std::to_string(process.pid());
  const std::string line = read_file(path + "/cmdline");
  EXPECT_EQ(line.substr(0, line.find('\0')), "another");
  EXPECT_EQ(line.find_first_not_of('\0', std::strlen("another")), std::string::npos);
  EXPECT_EQ(read_file(path + "/comm"), "another\n");
  end.give();
}

} // namespace
} // namespace lockrun::testing
