#pragma once

#include "child/control_group.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"
#include "sys/program.hpp"
#include "sys/signal.hpp"

#include <lockrun/error.hpp>

#include <chrono>
#include <optional>
#include <vector>

namespace lockrun::child {

// How a command ended.
struct Ending {
  enum class How {
    exited,
    killed,
    overtime, // it was ended because of the time limit
    lost,     // it was ended through the external control: its lock is, or soon would have been, another process's
  };
  How how = How::exited;
  int value = 0;                                 // the exit status, or the signal's number
  bool needed_kill = false;                      // overtime, lost: the polite signal was not enough
  bool by_terminal = false;                      // killed: by what the terminal sent to us, too
  std::vector<sys::ProcessStatus> left_behind{}; // what runs on, if Supervision asked for it
};

// A limit on how long the tree may run.
struct TimeLimit {
  std::chrono::nanoseconds moment;     // on the elapsed clock
  std::chrono::nanoseconds kill_after; // from the polite signal to SIGKILL
  int signal = SIGTERM;                // the polite signal
};

// Hears what people should know. Called in the supervising thread.
class Observer {
public:
  virtual ~Observer() = default;
  // The limit has passed, and the tree is being ended.
  virtual void overtime(const TimeLimit& limit) = 0;
  // These could not be ended, and the lock is kept until they have ended by themselves.
  virtual void cannot_end(const std::vector<sys::ProcessStatus>& members) = 0;
  // A signal is for the command, one process, and we may not send it.
  virtual void cannot_pass_on(int /*signal*/, const std::vector<sys::ProcessStatus>& /*command*/) {}
};

// Another process that controls the supervisor of a command: it passes signals on, and may have the tree ended.
class ExternalControl {
public:
  virtual ~ExternalControl() = default;
  // Takes the place of sys::wait_signal(): the other process passes on what is for the command.
  virtual Result<std::optional<sys::Signal>> wait(std::optional<std::chrono::nanoseconds> patience) = 0;
  // The other process has ended: the tree must end at once.
  virtual bool is_gone() const = 0;
  // When the tree has to be asked to end, and when killed, on the elapsed clock. Both may still change.
  virtual std::chrono::nanoseconds ask_at() const = 0;
  virtual std::chrono::nanoseconds kill_at() const = 0;
  virtual bool is_asked() const = 0;
  // True for one caller, which has to ask it: this process or the other one. The reason has been reported then.
  virtual bool claim_asking() = 0;
  virtual pid_t group() const = 0; // the other process's process group, and the command's
  virtual int signal() const = 0;  // the polite one
  // It begins only then: we leave that process group and session before.
  virtual void command_started(pid_t command) = 0;
  virtual void command_stopped(int signal) = 0;
  // A child that must not be counted as a part of the tree (witness.hpp).
  virtual void witness_made(pid_t helper) = 0;
};

struct Supervision {
  bool until_tree_ends = false;
  bool names_left_behind = false; // fill Ending::left_behind
  std::optional<TimeLimit> limit;
  Observer* observer = nullptr; // needed with a limit or an external control
  ExternalControl* external = nullptr;
  const ControlGroup* control_group = nullptr; // that the command starts in
};

// What an alarm is set with: a signal of its own, so that no other SIGALRM is mistaken for it.
int alarm_signal();

// The signals that are passed on to the command, or that we must not die or stop of while it runs.
sys::SignalSet supervised_signals();

// The same without those that stop us. Only these may be blocked before there is a command: a key that stops a whole
// process group stops us like any other process then, and in the moment in which the command is made it reaches both
// of us.
sys::SignalSet signals_before_start();

// Starts `program` and stays until it has ended, or its whole tree. Does not wait for the program's file to be opened.
// Signals are passed on, the time limit ends the whole tree. Where the tree matters we become a subreaper. Reasons:
// called_off, not_found, not_executable, start_failed, unknown_ending.
Result<Ending, Error> run(const sys::Program& program, const Supervision& supervision);

// For calls in which the command's tree matters, before anything else. Strangers are processes that can become our
// children, as a subreaper's, and are none of the command's: the program that executed us started them, or we are the
// first process of a container. If there are any, a copy of this process, of which they cannot become children, carries
// out the call. Returns none in the process that has to carry it out; in the other one, after it has ended, how it
// ended. Until then that passes signals on to the copy, and stops with it; the copy dies with it.
// Errors are about `command`: start_failed, unknown_ending. Never a part of its caller, whose stack would grow by it.
[[gnu::noinline]] Result<std::optional<Ending>, Error> keep_strangers_apart(const char* command);

// The reason for what Launch or execute() says.
Error start_error(const char* file, SysError cause);

} // namespace lockrun::child
