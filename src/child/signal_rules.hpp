#pragma once

#include "sys/signal.hpp"

#include <optional>

#include <sys/types.h>

namespace lockrun::child {

// `group` is the process group that counts as ours; none: the caller's own. A guard's twin has left the group and the
// session of the guard, whose signals it looks after (0: the group's number is outside our pid namespace).
using Group = std::optional<pid_t>;

// Whether a signal that we got is the command's business too (as in sudo): the terminal has sent its own to the command
// as well while that is in our process group, and what the command sent it does not want back. What we inherited
// ignored the command ignores too.
bool is_for_command(const sys::Signal& signal, pid_t command, Group group = {});

// Whether we inherited it ignored. Blocked and ignored, the kernel queues a signal all the same, and leaves it to us to
// pass over it.
bool is_ignored(int signal);

// Which processes besides us got a signal.
struct Reach {
  bool our_group = false;         // those of our process group, perhaps because all of our control group did
  bool only_our_group = false;    // those of our process group, and certainly no others
  bool our_control_group = false; // those of our control group, whatever their process group
};

// Whether it got to `process`, too. Where that cannot be known for certain: no.
bool has_reached(const Reach& reach, pid_t process, Group group = {});

bool shares_our_group(pid_t process, Group group = {});

// Whether it is in the same control groups (cgroups(7)). Where the kernel does not say: yes.
bool shares_our_control_group(pid_t process);

// Whether a key on the terminal sent it, or what else the kernel has to say to its foreground group.
bool is_from_terminal(const sys::Signal& signal);

// Whether the kernel says only to us that the terminal has hung up, and not to its foreground group: we lead the
// session.
bool is_hangup_for_leader(const sys::Signal& signal);

// A command has stopped by `signal`. If it shares our process group and terminal we stop too, so that the shell takes
// the terminal back (Ctrl-Z). Not in the background by SIGSTOP: no key and no shell has stopped it there, and what did
// so to the command alone will continue it alone, as cpulimit(1). Whether we did; returns when we are continued.
bool stop_beside(pid_t command, int signal);

// The number of a signal that has come before the command was started, and ends the call in its place; 0 if there is
// none. `mask` is what the command will have blocked.
int signal_against_start(const sys::SignalSet& mask);

} // namespace lockrun::child
