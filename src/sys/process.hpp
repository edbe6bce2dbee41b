#pragma once

#include "sys/descriptor.hpp"

#include <lockrun/error.hpp>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <sys/types.h>

namespace lockrun::sys {

// What the kernel told about a child (waitid(2)).
struct ChildChange {
  enum class Kind { exited, killed, stopped, continued };
  pid_t pid = 0;
  Kind kind = Kind::exited;
  int value = 0; // the exit status, or the signal's number
};

// A copy of this process (fork(2)): 0 in the copy, which has this thread only and none of our timers.
Result<pid_t> fork();

// The same for a helper of ours that nobody else is to notice: its end sends no signal, and wait_child() knows of it
// only with __WALL (clone(2), without an exit signal). libc takes the copy for the original: it may make system calls,
// and little else.
Result<pid_t> fork_unnoticed();

// Takes one change of a child off the kernel's list: of `child`, or of any when it is 0. `options` are waitid(2)'s
// (WEXITED, WSTOPPED, WCONTINUED, WNOHANG, WNOWAIT). None: nothing to tell (WNOHANG). ECHILD: there is no child.
Result<std::optional<ChildChange>> wait_child(pid_t child, int options);

pid_t process_id();

// The process that made us, or the subreaper that has taken its place (getppid(2)).
pid_t parent_process();

uid_t effective_user();

// The process group of `pid`, 0 for our own (getpgid(2)).
Result<pid_t> process_group(pid_t pid);

// Whether we are the leader of our session (getsid(2)).
bool leads_session();

// A handle on the process that has this number now: a later owner of the number is never mistaken for it
// (pidfd_open(2), Linux 5.3). ESRCH: nobody has it.
Result<Descriptor> open_process(pid_t pid);

// pidfd_send_signal(2), Linux 5.1. ESRCH: it has ended; EPERM: it is not ours to signal.
Result<void> signal_process(const Descriptor& process, int signal);

// Orphans among our descendants become our children (prctl(2), PR_SET_CHILD_SUBREAPER, Linux 3.4).
Result<void> become_subreaper();

// SIGKILL ends us when our parent has ended (prctl(2), PR_SET_PDEATHSIG); in vain if it has ended already.
Result<void> die_with_parent();

// Leaves our session and its terminal for one of our own (setsid(2)). EPERM: we lead a process group.
Result<void> begin_session();

// Closes every descriptor of this process (close_range(2), Linux 5.9; what /proc/self/fd lists where that is missing).
Result<void> close_all_descriptors();

// Our environment with `assignments` ("NAME=value") in the place of what it has under these names, ended by a null
// pointer (environ(7)). Borrows both. Several times cheaper than setenv(3).
std::vector<char*> environment_with(std::span<const std::string> assignments);

// getenv(3): null if it is not there.
const char* environment(const char* name);

// The name by which `ps` and /proc/PID/comm know this process, at most 15 bytes (prctl(2), PR_SET_NAME).
void set_process_name(const char* name);

// The same, and the command line, too, as far as there is room for it in the words that we were started with. They are
// lost, with everything that points to them.
void replace_command_line(const char* name);

// The path of the program that we are (readlink(2) of /proc/self/exe).
Result<std::string> program_path();

// This machine's name (gethostname(2)).
Result<std::string> host_name();

// Leaves at once: no destructor, no flush (_exit(2)).
[[noreturn]] void exit_now(int status);

} // namespace lockrun::sys
