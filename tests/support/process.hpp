#pragma once

#include "support/notice.hpp"

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include <sys/resource.h>
#include <sys/types.h>

namespace lockrun::testing {

// How a process ended. "Died of SIGTERM" and "exited with 143" are different facts.
struct WaitStatus {
  enum class Kind { exited, killed };
  Kind kind = Kind::exited;
  int value = 0; // the exit status, or the signal's number
  friend bool operator==(const WaitStatus&, const WaitStatus&) = default;
};
constexpr WaitStatus exited(int status)
{
  return {WaitStatus::Kind::exited, status};
}
constexpr WaitStatus killed(int signal)
{
  return {WaitStatus::Kind::killed, signal};
}
std::ostream& operator<<(std::ostream& out, const WaitStatus& status);

// Runs `body` in a fork of the test, which ends with what it returns. Killed, if it is still there, at the end; also
// when the thread ends that made it (PR_SET_PDEATHSIG), so that a test that is killed leaves nothing behind.
class Forked {
public:
  explicit Forked(const std::function<int()>& body);
  ~Forked();
  Forked(Forked&& other) noexcept;
  Forked& operator=(Forked&&) = delete;

  pid_t pid() const noexcept { return m_pid; }
  void signal(int number) const;
  WaitStatus wait();
  WaitStatus kill(); // SIGKILL and wait()

private:
  friend class Process;
  explicit Forked(pid_t pid) : m_pid(pid) {}
  pid_t m_pid = -1;
};

// Where one of a program's standard descriptors leads.
struct Redirect {
  enum class Kind { closed, null, captured, pipe, file, inherited };
  Kind kind = Kind::null;
  std::filesystem::path path{}; // for `file`
};
inline const Redirect k_closed{Redirect::Kind::closed};
inline const Redirect k_null{Redirect::Kind::null};
inline const Redirect k_captured{Redirect::Kind::captured}; // into memory; what daemons add later is lost
inline const Redirect k_pipe{Redirect::Kind::pipe};         // to be read line by line, or written
inline Redirect to_file(const std::filesystem::path& path)
{
  return {Redirect::Kind::file, path};
}

// What a program starts with. It starts clean whatever the test was started with: signals standard and unblocked, umask
// 022, no descriptors but these.
struct Start {
  Redirect in = k_null;
  Redirect out = k_captured;
  Redirect err = k_captured;
  std::map<std::string, std::optional<std::string>> environment{}; // changes to ours; none: not there
  std::optional<std::filesystem::path> directory{};
  std::map<int, int> descriptors{};                 // its number, and ours that it gets a copy of
  std::vector<std::function<void()>> before_exec{}; // in the child, in this order; see `hostile`
};

// Things for Start::before_exec that a program may inherit.
namespace hostile {
std::function<void()> ignore(int signal);
std::function<void()> block(int signal);
std::function<void()> limit(decltype(RLIMIT_NOFILE) resource, rlim_t value);
std::function<void()> limit(decltype(RLIMIT_NOFILE) resource, rlim_t value, rlim_t hard); // it may raise it so far
std::function<void()> umask(mode_t mask);
std::function<void()> become_user(uid_t user); // and the group of the same number, no others
std::function<void()> new_session();
// It has `with` in the place of the file `path`, which must exist. Only root can do that.
std::function<void()> replace_file(const std::filesystem::path& path, const std::filesystem::path& with);
} // namespace hostile

// The letter in /proc/PID/stat ('S', 'Z' ...); 0: there is no such process.
char state_of(pid_t pid);
bool lives(pid_t pid);       // it is there and no zombie
bool has_stopped(pid_t pid); // by a signal, with all its threads: wait(2) says so from then on
bool is_asleep(pid_t pid);   // it blocks in the kernel or has stopped
bool blocks_signal(pid_t pid, int signal);

// The first word after `name` ("State:") in /proc/PID/status; empty if there is none.
std::string word_of_status(pid_t pid, const std::string& name);

// 0: there is no such process.
pid_t parent_of(pid_t pid);

// "nobody": somebody who is not root.
inline constexpr uid_t k_nobody = 65534;

// A user without any other process or file: another one in each test that runs.
uid_t lonely_user();

// How a program ended, and what it wrote to captured descriptors.
struct Finished {
  WaitStatus status;
  std::string out;
  std::string err;
};

// A running program. Killed as a Forked is.
class Process {
public:
  // argv[0] is searched in PATH. Throws if it cannot be executed.
  explicit Process(const std::vector<std::string>& argv, const Start& start = {});
  ~Process();
  Process(Process&&) noexcept;
  Process& operator=(Process&&) = delete;

  pid_t pid() const noexcept;
  void signal(int number) const;

  // With `in` a pipe.
  void write(const std::string& bytes);
  void close_input();

  // With `out` or `err` a pipe: the next line without its newline, none at the end. Blocks for as long as anybody has
  // it open.
  std::optional<std::string> out_line();
  std::optional<std::string> err_line();

  // With `out` or `err` captured: what it has written so far.
  std::string out_so_far() const;
  std::string err_so_far() const;

  Finished wait();

private:
  struct State;
  std::unique_ptr<State> m_state;
};

Finished run_program(const std::vector<std::string>& argv, const Start& start = {});

// The program under test: $LOCKRUN_BINARY, or the one that was just built.
std::string lockrun_binary();
// Sanitizers have threads, pipes and memory of their own.
bool is_sanitized(const std::string& program);
// Under it what is left in a buffer is written out where the program leaves without, and SIGXFSZ ends it though
// blocked.
bool has_thread_sanitizer(const std::string& program);
std::vector<std::string> lockrun_argv(const std::vector<std::string>& arguments);
Finished run_lockrun(const std::vector<std::string>& arguments, const Start& start = {});

} // namespace lockrun::testing
