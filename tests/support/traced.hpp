#pragma once

#include <functional>

#include <sys/types.h>

namespace lockrun::testing {

// Stops a process at each of its system calls (ptrace(2)): what can only go wrong between two of them is then no matter
// of luck. For its first thread only; the children that it makes run freely.
class Traced {
public:
  // For Start::before_exec.
  static std::function<void()> on_start();

  // Takes over a process that was started so, before it has done anything. For the thread that started it.
  explicit Traced(pid_t pid);
  ~Traced() { let_go(); }
  Traced(const Traced&) = delete;
  Traced& operator=(const Traced&) = delete;

  // Goes on to the entry or the return of the next system call. False: it has ended instead, and is still to be waited
  // for.
  bool next();

  // The number of that call (SYS_...), and whether we are at its entry.
  long call() const noexcept { return m_call; }
  bool at_entry() const noexcept { return m_at_entry; }

  // Lets it run freely, with what was sent to it meanwhile.
  void let_go() noexcept;

private:
  pid_t m_pid;
  long m_call = -1;
  bool m_at_entry = false;
};

} // namespace lockrun::testing
