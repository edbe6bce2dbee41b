#include "support/traced.hpp"

#include <cerrno>
#include <csignal>
#include <system_error>

#include <sys/ptrace.h>
#include <sys/wait.h>

namespace lockrun::testing {
namespace {

[[noreturn]] void fail(const char* what)
{
  throw std::system_error(errno, std::generic_category(), what);
}

} // namespace

std::function<void()> Traced::on_start()
{
  return [] {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) { fail("ptrace(PTRACE_TRACEME)"); }
  };
}

Traced::Traced(pid_t pid) : m_pid(pid)
{
  int status = 0;
  if (::waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) { fail("waitpid"); } // behind execve
  if (::ptrace(PTRACE_SETOPTIONS, pid, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) != 0) {
    fail("ptrace(PTRACE_SETOPTIONS)");
  }
}

bool Traced::next()
{
  int deliver = 0;
  for (;;) {
    if (::ptrace(PTRACE_SYSCALL, m_pid, nullptr, deliver) != 0) { fail("ptrace(PTRACE_SYSCALL)"); }
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(m_pid), &info, WEXITED | WSTOPPED | WNOWAIT) != 0) { fail("waitid"); }
    if (info.si_code != CLD_TRAPPED) {
      m_pid = -1;
      return false;
    }
    int status = 0;
    (void)::waitpid(m_pid, &status, 0); // takes what waitid has seen
    if (WSTOPSIG(status) == (SIGTRAP | 0x80)) { break; }
    deliver = WSTOPSIG(status); // a signal on its way
  }
  __ptrace_syscall_info call{};
  if (::ptrace(PTRACE_GET_SYSCALL_INFO, m_pid, sizeof call, &call) < 0) { fail("ptrace(PTRACE_GET_SYSCALL_INFO)"); }
  m_at_entry = call.op == PTRACE_SYSCALL_INFO_ENTRY;
  if (m_at_entry) { m_call = static_cast<long>(call.entry.nr); }
  return true;
}

void Traced::let_go() noexcept
{
  if (m_pid > 0) { (void)::ptrace(PTRACE_DETACH, m_pid, nullptr, nullptr); } // it may have been killed
  m_pid = -1;
}

} // namespace lockrun::testing
