#pragma once

#include "sys/descriptor.hpp"
#include "sys/signal.hpp"

#include <lockrun/error.hpp>

#include <optional>
#include <span>

#include <sys/types.h>

namespace lockrun::sys {

// What ties a program to its parent, which ends it.
struct Bonds {
  pid_t parent;                    // SIGKILL ends the program when this process has ended
  const Descriptor& gate;          // it does not begin before this can be read
  const Descriptor* control_group; // the directory of the one that it starts in, where the kernel can do that; or null
};

// What a new program starts with. Borrowed: everything must outlive the call. A child that shares our memory reads it
// until it has executed, so for start() it must then outlive the child, too.
struct Program {
  const char* file;                               // searched in PATH unless it has a slash
  char* const* argv;                              // ends with a null pointer
  SignalSet mask;                                 // its signal mask
  bool ignores_child = false;                     // SIGCHLD is ignored in it
  std::span<const Descriptor* const> inherited{}; // it gets a copy of each, moved out of scripts' way
  char* const* environment = nullptr;             // ends with a null pointer; null: ours
  const Descriptor* talks_to = nullptr; // becomes its standard input and output; it gets a session of its own then
  const Bonds* bonds = nullptr;         // null: none
  int lowest_inherited = 10;            // where the copies begin: scripts use descriptors 3 to 9 by number
};

// Becomes `program` (execve(2)), with the search in PATH and the shell for a file without "#!" of execvpe(3). Returns
// only in failure.
SysError execute(const Program& program);

// A child that becomes a program, or fails to.
class Launch {
public:
  pid_t pid() const noexcept { return m_pid; }

  // Why the child has not become the program, by the call that failed ("execve" if the program could not be executed);
  // none if it has, or if a signal ended it before. Meaningful once the child has been reaped.
  std::optional<SysError> failure() const;

private:
  struct Attempt;
  friend struct Beginning;
  friend Result<Launch> start(const Program& program);
  Launch(pid_t pid, const Attempt* attempt) noexcept : m_pid(pid), m_attempt(attempt) {}

  pid_t m_pid;
  const Attempt* m_attempt; // shared with the child; it stays mapped
};

// Starts `program` in a child, and does not wait for it: opening the program's file can take as long as a lease or a
// file server makes it. Where that works the child shares our memory until it has executed (clone(2), CLONE_VM): no
// signal that has a handler may be unblocked here. Elsewhere, and if we talk to the program, it is a copy of this
// process. An error means that there is no child ("mmap", "clone").
Result<Launch> start(const Program& program);

} // namespace lockrun::sys
