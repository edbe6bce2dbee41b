#include "kernel/ancestry.hpp"

#include "sys/file.hpp"
#include "sys/process.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace lockrun::kernel {
namespace {

constexpr const char* k_flock = "flock"; // util-linux's, or this program by that name

// Whether `process` is the command of the lockrun `pid`, or something that this started.
bool is_told_of(pid_t process, pid_t pid)
{
  const auto environment = sys::read_file(("/proc/" + std::to_string(process) + "/environ").c_str());
  const std::string wanted = "LOCKRUN_PID=" + std::to_string(pid) + '\0';
  return environment && ('\0' + *environment).find('\0' + wanted) != std::string::npos;
}

// Where there are strangers among its children, lockrun has a copy of itself be the parent of its command, which is
// told the number of one of them.
bool is_copy_of_parent(const sys::ProcessStatus& process)
{
  const auto own = sys::command_line(process.pid);
  const auto parents = sys::command_line(process.parent);
  return own && parents && !own->empty() && *own == *parents;
}

} // namespace

bool asks_for_ancestors(const LockRequest& request)
{
  const bool is_nonblocking = request.patience == std::chrono::nanoseconds(0);
  return request.nested == Nested::run || (request.nested == Nested::fail && !is_nonblocking);
}

bool runs_our_program(const sys::ProcessStatus& process)
{
  const auto ours = sys::stat("/proc/self/exe");
  const auto its = sys::stat(("/proc/" + std::to_string(process.pid) + "/exe").c_str());
  return ours && its && ours->identity == its->identity;
}

bool frees_its_lock(const sys::ProcessStatus& process)
{
  return process.state != 'Z' && process.name != k_flock && (process.name == "lockrun" || runs_our_program(process));
}

bool is_adopted(const sys::ProcessStatus& child, const sys::ProcessStatus& parent)
{
  if (parent.name != k_flock && !frees_its_lock(parent)) { return false; }
  const bool is_copy = is_copy_of_parent(parent);
  for (const pid_t pid : sys::children_of(parent.pid).value_or(std::vector<pid_t>())) {
    if (pid == child.pid) { return false; }
    if (is_told_of(pid, parent.pid) || (is_copy && is_told_of(pid, parent.parent))) { return true; }
  }
  return false;
}

} // namespace lockrun::kernel
