#include "sys/process.hpp"

#include "sys/file.hpp"
#include "sys/raw.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockrun::sys {
namespace {

// Scripts use descriptors 3 to 9 by number.
constexpr int k_lowest_inherited = 10;

// The kernel's own layout for rt_sigaction(2): the child must not go through libc's table of handlers, which it shares
// with its parent.
struct KernelAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  unsigned long mask;
};

// Gives the next program a copy of `fd`, as high as the limit allows. With no room at all, the original.
int hand_down(int fd)
{
  if (::fcntl(fd, F_DUPFD, k_lowest_inherited) >= 0) { return 0; }
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= static_cast<rlim_t>(k_lowest_inherited)) {
    for (int lowest = static_cast<int>(limit.rlim_cur) - 1; lowest > fd; --lowest) {
      if (::fcntl(fd, F_DUPFD, lowest) >= 0) { return 0; }
    }
  }
  return ::fcntl(fd, F_SETFD, 0) == 0 ? 0 : errno;
}

struct Launch {
  const Program* program;
  SysError error{"execve", 0};
};

// A program that we talk to: not of our terminal's, whose keys and hang-ups are none of its business.
int talk(int socket)
{
  if (::setsid() < 0) { return errno; } // fails for a process group's leader only, and no child of ours is one yet
  // Standard error may be a filler for our own time; a program that opened a server's connection there would send that
  // its complaints.
  if (::fcntl(STDERR_FILENO, F_SETFD, 0) != 0) { return errno; }
  // dup2(2) of a descriptor onto itself would leave it close-on-exec.
  if (socket <= STDERR_FILENO && (socket = ::fcntl(socket, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)) < 0) { return errno; }
  return ::dup2(socket, STDIN_FILENO) < 0 || ::dup2(socket, STDOUT_FILENO) < 0 ? errno : 0;
}

SysError become(const Program& program)
{
  if (program.talks_to != nullptr) {
    if (const int code = talk(program.talks_to->get()); code != 0) { return {"dup2", code}; }
  }
  for (const Descriptor* const fd : program.inherited) {
    if (const int code = hand_down(fd->get()); code != 0) { return {"fcntl(F_SETFD)", code}; }
  }
  if (program.ignores_child) {
    const KernelAction ignore{SIG_IGN, 0, nullptr, 0};
    if (::syscall(SYS_rt_sigaction, SIGCHLD, &ignore, nullptr, sizeof ignore.mask) != 0) {
      return {"rt_sigaction", errno};
    }
  }
  if (::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &program.mask.raw(), nullptr, sizeof(unsigned long)) != 0) {
    return {"rt_sigprocmask", errno};
  }
  ::execvpe(program.file, program.argv, program.environment != nullptr ? program.environment : environ);
  return {"execve", errno};
}

int child_body(void* argument)
{
  auto* launch = static_cast<Launch*>(argument);
  launch->error = become(*launch->program);
  return 127; // clone(2): ends the process, no destructor runs
}

} // namespace

SysError execute(const Program& program)
{
  return become(program);
}

Result<pid_t> spawn(const Program& program)
{
  // execvpe(3) keeps a path, and for a script without "#!" a copy of argv, on the stack.
  std::size_t words = 0;
  while (program.argv[words] != nullptr) { ++words; }
  const char* const path = ::getenv("PATH");
  const std::size_t needed = 128 * 1024 + words * sizeof(char*) + (path != nullptr ? std::strlen(path) : 0);
  const std::size_t size = (needed + 0xffff) & ~std::size_t{0xffff};
  void* const stack =
    ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) { return tl::unexpected(SysError{"mmap", errno}); }
  // Nothing may run a handler of ours in memory that both share: the child has every signal blocked until it sets the
  // program's mask, one call before it executes.
  SignalSet all;
  ::sigfillset(&all.raw());
  const SignalSet before = set_signal_mask(all);
  Launch launch{&program};
  const pid_t child = ::clone(
    child_body, static_cast<char*>(stack) + size, CLONE_VM | CLONE_VFORK | SIGCHLD, static_cast<void*>(&launch));
  const int code = errno;
  (void)set_signal_mask(before);
  ::munmap(stack, size);
  if (child < 0) { return tl::unexpected(SysError{"clone", code}); }
  if (launch.error.code == 0) { return child; }
  (void)wait_child(child, WEXITED); // it has ended already; only its number must go
  return tl::unexpected(launch.error);
}

Result<pid_t> fork()
{
  const pid_t child = ::fork();
  if (child < 0) { return tl::unexpected(SysError{"fork", errno}); }
  return child;
}

Result<std::optional<ChildChange>> wait_child(pid_t child, int options)
{
  ::siginfo_t info{};
  while (::waitid(child == 0 ? P_ALL : P_PID, static_cast<id_t>(child), &info, options) != 0) {
    if (errno != EINTR) { return tl::unexpected(SysError{"waitid", errno}); }
  }
  if (info.si_pid == 0) { return std::optional<ChildChange>(); }
  ChildChange change;
  change.pid = info.si_pid;
  change.value = info.si_status;
  if (info.si_code == CLD_EXITED) {
    change.kind = ChildChange::Kind::exited;
  } else if (info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED) {
    change.kind = ChildChange::Kind::killed;
  } else {
    change.kind = ChildChange::Kind::stopped;
  }
  return change;
}

pid_t process_id()
{
  return ::getpid();
}

pid_t parent_process()
{
  return ::getppid();
}

uid_t effective_user()
{
  return ::geteuid();
}

Result<pid_t> process_group(pid_t pid)
{
  const pid_t group = ::getpgid(pid);
  if (group < 0) { return tl::unexpected(SysError{"getpgid", errno}); }
  return group;
}

bool leads_session()
{
  return ::getsid(0) == ::getpid();
}

Result<Descriptor> open_process(pid_t pid)
{
  const auto fd = raw_call("pidfd_open", SYS_pidfd_open, pid, 0);
  if (!fd) { return tl::unexpected(fd.error()); }
  return Descriptor(static_cast<int>(*fd));
}

Result<void> signal_process(const Descriptor& process, int signal)
{
  const auto sent = raw_call("pidfd_send_signal", SYS_pidfd_send_signal, process.get(), signal, nullptr, 0);
  if (!sent) { return tl::unexpected(sent.error()); }
  return {};
}

Result<void> become_subreaper()
{
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) { return tl::unexpected(SysError{"prctl", errno}); }
  return {};
}

std::vector<char*> environment_with(std::span<const std::string> assignments)
{
  const auto replaces = [](const std::string& assignment, const char* variable) {
    return *variable == assignment.front() && std::strncmp(variable, assignment.data(), assignment.find('=') + 1) == 0;
  };
  std::size_t count = 0;
  while (environ[count] != nullptr) { ++count; }
  std::vector<char*> environment;
  environment.reserve(count + assignments.size() + 1);
  for (const std::string& assignment : assignments) { environment.push_back(const_cast<char*>(assignment.c_str())); }
  for (char* const variable : std::span(environ, count)) {
    const bool replaced = std::any_of(
      assignments.begin(), assignments.end(), [&](const std::string& each) { return replaces(each, variable); });
    if (!replaced) { environment.push_back(variable); }
  }
  environment.push_back(nullptr);
  return environment;
}

const char* environment(const char* name)
{
  return ::getenv(name);
}

void set_process_name(const char* name)
{
  ::prctl(PR_SET_NAME, name, 0, 0, 0); // cannot fail
}

Result<std::string> program_path()
{
  std::string path(PATH_MAX, '\0');
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size());
  if (size < 0) { return tl::unexpected(SysError{"readlink", errno}); }
  path.resize(static_cast<std::size_t>(size));
  return path;
}

Result<std::string> host_name()
{
  char name[HOST_NAME_MAX + 1] = {};
  if (::gethostname(name, sizeof name - 1) != 0) { return tl::unexpected(SysError{"gethostname", errno}); }
  return std::string(name);
}

void exit_now(int status)
{
  ::_exit(status);
}

} // namespace lockrun::sys
