#pragma once

#include "sys/signal.hpp"

#include <sys/types.h>

namespace lockrun::child {

// Whether a signal that we got is the command's business too (as in sudo): the terminal has sent its own to the command
// as well while that is in our process group, and what the command sent it does not want back. What we inherited
// ignored the command ignores too.
bool is_for_command(const sys::Signal& signal, pid_t command);

// Whether a key on the terminal sent it, or what else the kernel has to say to its foreground group.
bool is_from_terminal(const sys::Signal& signal);

// Whether the kernel says only to us that the terminal has hung up, and not to its foreground group: we lead the
// session.
bool is_told_as_leader(const sys::Signal& signal);

// The two halves of stop_with(), for who is not the command's parent. The first says whether we stopped, and returns
// when we are continued; the second is for the parent.
bool stop_beside(pid_t command);
void continue_stopped(pid_t command);

// The command has stopped. If it shares our process group and terminal we stop too, so that the shell takes the
// terminal back (Ctrl-Z), and continue it when we are continued. Returns after that.
void stop_with(pid_t command);

} // namespace lockrun::child
