#include "sys/process.hpp"

#include "sys/again.hpp"
#include "sys/raw.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include <dirent.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockrun::sys {
Result<pid_t> fork()
{
  const pid_t child = ::fork();
  if (child < 0) { return tl::unexpected(SysError{"fork", errno}); }
  return child;
}

Result<pid_t> fork_unnoticed()
{
  const auto child = raw_call("clone", SYS_clone, 0, 0, 0, 0, 0);
  if (!child) { return tl::unexpected(child.error()); }
  return static_cast<pid_t>(*child);
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
  } else if (info.si_code == CLD_CONTINUED) {
    change.kind = ChildChange::Kind::continued;
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

Result<void> die_with_parent()
{
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) { return tl::unexpected(SysError{"prctl", errno}); }
  return {};
}

Result<void> begin_session()
{
  if (::setsid() < 0) { return tl::unexpected(SysError{"setsid", errno}); }
  return {};
}

Result<void> close_all_descriptors()
{
  if (raw_call("close_range", SYS_close_range, 0U, ~0U, 0U)) { return {}; }
  const int directory = ::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) { return tl::unexpected(SysError{"open", errno}); }
  alignas(dirent64) std::array<char, 1024> buffer;
  for (;;) {
    const ssize_t size = ::getdents64(directory, buffer.data(), buffer.size());
    if (size < 0) { return tl::unexpected(SysError{"getdents64", errno}); }
    if (size == 0) { break; }
    // The kernel counts on from the last number that it listed, whatever has been closed since.
    for (ssize_t at = 0; at < size;) {
      const auto* const entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
      at += entry->d_reclen;
      int number = -1;
      std::from_chars(entry->d_name, entry->d_name + std::strlen(entry->d_name), number);
      if (number >= 0 && number != directory) { ::close(number); } // "." and ".." are no numbers
    }
  }
  ::close(directory);
  return {};
}

std::vector<char*> environment_with(std::span<const std::string> assignments)
{
  const auto replaces = [](const std::string& assignment, const char* variable) {
    const char* name = assignment.c_str();
    for (; *name == *variable && *name != '='; ++variable) { ++name; }
    return *name == '=' && *variable == '=';
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

void replace_command_line(const char* name)
{
  // The kernel has put the words one after another, the environment after them, and then the program's path
  // (execve(2)).
  char* const begin = program_invocation_name;
  const char* end = *environ;
  if (end == nullptr) {
    end = reinterpret_cast<const char*>(::getauxval(AT_EXECFN)); // NOLINT(performance-no-int-to-ptr): it is one
  }
  constexpr std::ptrdiff_t k_longest = 128L * 1024 * 1024; // somebody has moved them
  if (begin != nullptr && end > begin && end - begin <= k_longest) {
    const auto size = static_cast<std::size_t>(end - begin);
    std::memset(begin, 0, size);
    std::copy_n(name, std::min(std::strlen(name), size - 1), begin);
  }
  set_process_name(name); // last: a process that finds it finds both
}

Result<std::string> program_path()
{
  std::string path(PATH_MAX, '\0');
  const ssize_t size = again([&] { return ::readlink("/proc/self/exe", path.data(), path.size()); });
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
