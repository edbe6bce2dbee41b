#pragma once

#include "sys/file.hpp"
#include "sys/signal.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace lockrun::sys {

// One process as the kernel shows it (proc(5), /proc/PID/stat).
struct ProcessStatus {
  pid_t pid = 0;
  pid_t parent = 0;
  char state = '?';        // Z: it has ended and waits to be reaped
  std::uint64_t start = 0; // clock ticks since boot: with pid it names one process for ever
  std::string name;        // at most 15 bytes, as the process set it
};

// One line about a lock, from /proc/locks or behind "lock:" in /proc/PID/fdinfo/FD (proc(5)).
struct LockLine {
  enum class Kind { flock, ofd, posix, lease };
  Kind kind = Kind::flock;
  Mode mode = Mode::exclusive;
  bool waits = false;        // "->": it queues behind the line above
  pid_t pid = 0;             // who took it; -1 for ofd locks, 0 for a process of another pid namespace
  unsigned device_major = 0; // of the file system; not always stat's (btrfs, overlayfs)
  unsigned device_minor = 0;
  ino_t inode = 0;
  std::int64_t start = 0;
  std::int64_t end = 0; // last byte; INT64_MAX for EOF
};

// None for a line that says something else.
std::optional<LockLine> parse_lock_line(std::string_view line);

// The open files of `pid` that are the file `identity`, by number. EACCES: they are not ours to see; ESRCH: there is no
// such process. Descriptors that are closed meanwhile are left out.
Result<std::vector<int>> descriptors_of(pid_t pid, const FileIdentity& identity);

// All of its descriptors, by number.
Result<std::vector<int>> descriptors_of(pid_t pid);

// What is behind one of them (statx(2): identity, size and type, where terminals and /dev/null count as `other`), and
// under which name it was opened (readlink(2)). No file server is asked.
Result<FileStatus> descriptor_status(pid_t pid, int fd);
Result<std::string> descriptor_path(pid_t pid, int fd);

// Whether it is worth asking for the locks of a descriptor: most are terminals, pipes and sockets, and that is four
// system calls each.
inline bool may_be_locked(FileType type)
{
  return type != FileType::other;
}

// Whether two descriptors share one open file description, as copies of each other do (kcmp(2), Linux 3.5). EPERM: one
// of the processes is not ours to look into; ENOSYS: the kernel was built without it.
enum class Description { shared, separate };
Result<Description> compare_descriptions(pid_t pid, int fd, pid_t other_pid, int other_fd);

// The locks that belong to descriptor `fd` of `pid`, from its fdinfo (Linux 4.1).
Result<std::vector<LockLine>> locks_of(pid_t pid, int fd);

// What the kernel shows of one descriptor (/proc/PID/fdinfo/FD).
struct DescriptorInfo {
  std::int64_t offset = 0; // lseek(2)
  int mount = 0;           // the number of its mount in /proc/PID/mountinfo
  ino_t inode = 0;         // as /proc/locks has it, which is not always stat's (overlayfs); 0 before Linux 5.14
  std::vector<LockLine> locks;
};
Result<DescriptorInfo> descriptor_info(pid_t pid, int fd);

// All of /proc/locks: what the kernel shows to our pid namespace. With n waiters on one file the kernel needs up to
// n^2 bytes to draw its tree of them: 4 ms for 1,000. The kernel shows it in pieces, and counts from its beginning to
// find where the next one begins: when another lock comes or goes between two pieces, lines can be left out or twice.
Result<std::vector<LockLine>> all_locks();

// The same, at twice the cost and more. `is_complete`: no lock that was there all the time is left out or twice; false
// where the list changes faster than it can be read.
struct LockList {
  std::vector<LockLine> lines;
  bool is_complete = false;
};
Result<LockList> all_locks_checked();

// The command line of `pid`, words separated by NUL; empty for a kernel thread or a zombie.
Result<std::string> command_line(pid_t pid);

// The effective user of `pid`. The owner of /proc/PID is not always that (prctl(2), PR_SET_DUMPABLE).
Result<uid_t> user_of(pid_t pid);

// The content of a file of /proc, read to its end.
Result<std::string> read_file(const char* path);

// Whether /proc is there and shows our own pid namespace. EOPNOTSUPP if not: what it calls by our numbers are
// strangers.
Result<void> check_proc();

// ESRCH: there is no such process.
Result<ProcessStatus> process_status(pid_t pid);

// The signals that wait for `pid` to take them (proc(5), /proc/PID/status).
Result<SignalSet> pending_signals(pid_t pid);

// When it started, on the elapsed clock.
std::chrono::nanoseconds started(const ProcessStatus& process);

// The children of this thread, zombies included (/proc/thread-self/children). ENOENT: the kernel does not tell (Linux
// before 3.17, or without CONFIG_PROC_CHILDREN).
Result<std::vector<pid_t>> children();

// The children of the main thread of `pid`, zombies included, as they came: those that it started, and orphans that it
// adopted since, each at the end (/proc/PID/task/PID/children). ENOENT as above, or there is no such process.
Result<std::vector<pid_t>> children_of(pid_t pid);

// The process IDs that a file lists, of /proc or of a control group.
Result<std::vector<pid_t>> process_ids_in(const char* path);

// The names in directory `path` that begin with `prefix`; none if it cannot be read.
std::vector<std::string> entries_of(const char* path, std::string_view prefix);

// All that we can see. Those that end meanwhile are left out.
Result<std::vector<ProcessStatus>> all_processes();

} // namespace lockrun::sys
