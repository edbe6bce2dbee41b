#include "sys/program.hpp"

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lockrun::sys {
namespace {

// A child that shares our memory runs beside us and has our errno (clone(2) without CLONE_SETTLS), so it must not call
// libc's wrappers. Where we know no way around them, and where a sanitizer watches the memory, the child is a copy.
#if (defined(__x86_64__) && defined(__LP64__)) || defined(__aarch64__)
constexpr bool k_has_bare_calls = true;
#else
constexpr bool k_has_bare_calls = false;
#endif
#ifdef LOCKRUN_SANITIZED
constexpr bool k_is_sanitized = true;
#else
constexpr bool k_is_sanitized = false;
#endif

// A system call that leaves errno alone. The error is negative in the result, as the kernel returns it.
long bare_call(long number, long a, long b, long c, long d)
{
#if defined(__x86_64__) && defined(__LP64__)
  long result = number;
  register long fourth asm("r10") = d;
  asm volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(fourth) : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long call asm("x8") = number;
  register long first asm("x0") = a;
  register long second asm("x1") = b;
  register long third asm("x2") = c;
  register long fourth asm("x3") = d;
  asm volatile("svc #0" : "+r"(first) : "r"(call), "r"(second), "r"(third), "r"(fourth) : "memory");
  return first;
#else
  const long result = ::syscall(number, a, b, c, d);
  return result == -1 ? -errno : result;
#endif
}

template <class T>
long word(T value)
{
  if constexpr (std::is_pointer_v<T> || std::is_null_pointer_v<T>) {
    return reinterpret_cast<long>(value);
  } else {
    return static_cast<long>(value);
  }
}

template <class A, class B = long, class C = long, class D = long>
long bare(long number, A a, B b = 0, C c = 0, D d = 0)
{
  return bare_call(number, word(a), word(b), word(c), word(d));
}

// --- From here to become(): no errno, no memory from the heap, nothing that another thread of ours could change. ---

// The kernel's own layout for rt_sigaction(2).
struct KernelAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  unsigned long mask;
};

long copy_descriptor(int fd, int command, int lowest)
{
  return bare(SYS_fcntl, fd, command, lowest);
}

// Gives the next program `fd`, or a copy at `lowest` or above, or as high as the limit allows. With no room at all, the
// original.
long make_inheritable(int fd, int lowest)
{
  if (fd >= lowest) { return bare(SYS_fcntl, fd, F_SETFD, 0); }
  if (copy_descriptor(fd, F_DUPFD, lowest) >= 0) { return 0; }
  rlimit limit{};
  if (bare(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit) == 0 && limit.rlim_cur <= static_cast<rlim_t>(lowest)) {
    for (int high = static_cast<int>(limit.rlim_cur) - 1; high > fd; --high) {
      if (copy_descriptor(fd, F_DUPFD, high) >= 0) { return 0; }
    }
  }
  return bare(SYS_fcntl, fd, F_SETFD, 0);
}

long duplicate(long from, int to)
{
#ifdef SYS_dup2
  return bare(SYS_dup2, from, to);
#else
  return bare(SYS_dup3, from, to, 0);
#endif
}

// A program that we talk to: not of our terminal's, whose keys and hang-ups are none of its business.
long talk(long socket)
{
  // Fails for the leader of a process group only, and no child of ours is one yet.
  if (const long made = bare(SYS_setsid, 0); made < 0) { return made; }
  // Standard error may be a filler for our own time; a program that opened a server's connection there would send that
  // its complaints.
  if (const long kept = bare(SYS_fcntl, STDERR_FILENO, F_SETFD, 0); kept < 0) { return kept; }
  // dup2(2) of a descriptor onto itself would leave it close-on-exec.
  if (socket <= STDERR_FILENO) {
    socket = copy_descriptor(static_cast<int>(socket), F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (socket < 0) { return socket; }
  }
  if (const long in = duplicate(socket, STDIN_FILENO); in < 0) { return in; }
  return duplicate(socket, STDOUT_FILENO);
}

std::size_t count_of(char* const* words)
{
  std::size_t count = 0;
  while (words[count] != nullptr) { ++count; }
  return count;
}

// Whether the file is in the format of programs, of whatever processor. A shell would run its bytes as commands.
bool is_program(const char* file)
{
  constexpr char k_magic[] = {'\177', 'E', 'L', 'F'}; // elf(5)
  char head[sizeof k_magic] = {};
  const long fd = bare(SYS_openat, AT_FDCWD, file, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) { return false; }
  const long count = bare(SYS_read, fd, &head[0], sizeof head);
  (void)bare(SYS_close, fd); // it was only read
  return count == static_cast<long>(sizeof head) && std::memcmp(head, k_magic, sizeof head) == 0;
}

// One file; returns only in failure. `room` takes two words more than argv has.
long execute_file(const char* file, const Program& program, const char** room)
{
  char* const* const environment = program.environment != nullptr ? program.environment : environ;
  const long failure = bare(SYS_execve, file, program.argv, environment);
  if (failure != -ENOEXEC || is_program(file)) { return failure; }
  // A script without "#!".
  room[0] = "/bin/sh";
  room[1] = file;
  const std::size_t words = count_of(program.argv);
  for (std::size_t i = 1; i <= words; ++i) { room[i + 1] = program.argv[i]; }
  if (words == 0) { room[2] = nullptr; }
  return bare(SYS_execve, room[0], room, environment);
}

// What lets the search in PATH go on: there is no such file in that directory, or the directory cannot be reached.
bool is_elsewhere(long failure)
{
  return failure == -ENOENT || failure == -ENOTDIR || failure == -ESTALE || failure == -ENODEV || failure == -ETIMEDOUT;
}

// As execvpe(3): a file that we may not execute does not end the search, and counts if there is no other. A function of
// its own in any case: its path takes pages of the stack that a command with a slash never touches.
[[gnu::noinline]] long search_and_execute(const Program& program, const char** room)
{
  const char* const file = program.file;
  const std::size_t length = std::strlen(file);
  if (length == 0) { return -ENOENT; }
  if (length > NAME_MAX) { return -ENAMETOOLONG; }
  const char* directory = ::getenv("PATH");
  if (directory == nullptr) { directory = "/bin:/usr/bin"; }
  long answer = -ENOENT;
  for (;;) {
    const char* const colon = std::strchr(directory, ':');
    const std::size_t size = colon != nullptr ? static_cast<std::size_t>(colon - directory) : std::strlen(directory);
    char path[PATH_MAX];
    if (size + length + 2 <= sizeof path) {
      std::memcpy(path, directory, size);
      std::size_t used = size;
      if (size != 0) { path[used++] = '/'; } // none: the working directory
      std::memcpy(path + used, file, length);
      path[used + length] = '\0';
      const long failure = execute_file(path, program, room);
      if (failure == -EACCES) {
        answer = failure;
      } else if (!is_elsewhere(failure)) {
        return failure;
      }
    }
    if (colon == nullptr) { return answer; }
    directory = colon + 1;
  }
}

SysError failed(const char* call, long result)
{
  return {call, static_cast<int>(-result)};
}

// Code 0: done.
[[gnu::cold]] SysError bind(const Bonds& bonds)
{
  if (const long done = bare(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL); done < 0) { return failed("prctl", done); }
  if (bare(SYS_getppid, 0) != bonds.parent) { return failed("getppid", -ESRCH); }
  ::pollfd gate{bonds.gate.get(), POLLIN, 0};
  for (;;) {
    const long done = bare(SYS_ppoll, &gate, 1, nullptr, nullptr);
    if (done >= 0) { return {nullptr, 0}; }
    if (done != -EINTR) { return failed("ppoll", done); }
  }
}

// Returns only in failure.
SysError become(const Program& program, const char** room)
{
  if (program.talks_to != nullptr) {
    if (const long done = talk(program.talks_to->get()); done < 0) { return failed("dup2", done); }
  }
  if (program.bonds != nullptr) {
    if (const auto failure = bind(*program.bonds); failure.code != 0) { return failure; }
  }
  for (const Descriptor* const fd : program.inherited) {
    if (const long done = make_inheritable(fd->get(), program.lowest_inherited); done < 0) {
      return failed("fcntl(F_SETFD)", done);
    }
  }
  if (program.ignores_child) {
    const KernelAction ignore{SIG_IGN, 0, nullptr, 0};
    const long done = bare(SYS_rt_sigaction, SIGCHLD, &ignore, nullptr, sizeof ignore.mask);
    if (done < 0) { return failed("rt_sigaction", done); }
  }
  const long done = bare(SYS_rt_sigprocmask, SIG_SETMASK, &program.mask.raw(), nullptr, sizeof(unsigned long));
  if (done < 0) { return failed("rt_sigprocmask", done); }
  const bool is_path = std::strchr(program.file, '/') != nullptr;
  return failed("execve", is_path ? execute_file(program.file, program, room) : search_and_execute(program, room));
}

// Valgrind ends a process that asks for this kind of child; its part that is loaded into programs is named here.
bool may_share_memory()
{
  if constexpr (!k_has_bare_calls || k_is_sanitized) { return false; }
  const char* const loaded = ::getenv("LD_PRELOAD");
  return loaded == nullptr || std::strstr(loaded, "vgpreload") == nullptr;
}

// A copy of this process in a control group (clone3(2), CLONE_INTO_CGROUP, Linux 5.7): to move a process later can cost
// many milliseconds. libc takes the copy for the original, as with fork_unnoticed(). Negative if there is none.
[[gnu::cold]] pid_t fork_into(const Descriptor& control_group)
{
#ifdef SYS_clone3
  // <linux/sched.h> of Linux before 5.7 does not have all of it.
  constexpr std::uint64_t k_into_control_group = 0x200000000;
  struct {
    std::uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size,
      group;
  } arguments{};
  arguments.flags = k_into_control_group;
  arguments.exit_signal = SIGCHLD;
  arguments.group = static_cast<std::uint64_t>(control_group.get());
  return static_cast<pid_t>(bare(SYS_clone3, &arguments, sizeof arguments));
#else
  return -1;
#endif
}

} // namespace

// In memory that we share with the child even if it is a copy of ours: it says there what failed. Its stack is below,
// in the same page at first.
struct Launch::Attempt {
  const Program* program;
  const char** room;
  SysError error;
};

struct Beginning {
  static int run(void* argument)
  {
    auto* const attempt = static_cast<Launch::Attempt*>(argument);
    attempt->error = become(*attempt->program, attempt->room);
    return 127; // clone(2): ends the process, no destructor runs
  }
};

std::optional<SysError> Launch::failure() const
{
  return m_attempt->error.code != 0 ? std::optional(m_attempt->error) : std::nullopt;
}

SysError execute(const Program& program)
{
  std::vector<const char*> room(count_of(program.argv) + 2);
  return become(program, room.data());
}

Result<Launch> start(const Program& program)
{
  // A path of PATH_MAX, and little else; and half a page, so that what lies above is in the page that is used first.
  constexpr std::size_t k_stack = 34 * 1024;
  const std::size_t room = (count_of(program.argv) + 2) * sizeof(char*);
  const std::size_t size = k_stack + sizeof(Launch::Attempt) + room;
  void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) { return tl::unexpected(SysError{"mmap", errno}); }
  void* const top = static_cast<char*>(memory) + k_stack;
  auto* const attempt = new (top) Launch::Attempt{&program, nullptr, {nullptr, 0}};
  attempt->room = reinterpret_cast<const char**>(attempt + 1);
  pid_t child = -1;
  if (program.bonds != nullptr && program.bonds->control_group != nullptr) {
    child = fork_into(*program.bonds->control_group);
  }
  if (child < 0 && program.talks_to == nullptr && may_share_memory()) {
    child = ::clone(Beginning::run, top, CLONE_VM | SIGCHLD, static_cast<void*>(attempt));
  }
  if (child < 0) { child = ::fork(); } // QEMU's user mode has no such child, and says EINVAL
  if (child == 0) { ::_exit(Beginning::run(attempt)); }
  if (child < 0) {
    const SysError error{"clone", errno};
    ::munmap(memory, size);
    return tl::unexpected(error);
  }
  return Launch(child, attempt);
}

} // namespace lockrun::sys
