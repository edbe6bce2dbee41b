#include "backends/ancestry.hpp"

#include "sys/file.hpp"
#include "sys/process.hpp"

#include <string>
#include <vector>

namespace lockrun::backends {
namespace {

constexpr const char* k_engine_prefix = "lockrun-";

constexpr const char* k_flock = "flock"; // util-linux's, or this program by that name

} // namespace

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
  const std::string program = sys::command_line(parent.pid).value_or(std::string());
  for (const pid_t pid : sys::children_of(parent.pid).value_or(std::vector<pid_t>())) {
    if (pid == child.pid) { return false; }
    const auto status = sys::process_status(pid);
    if (!status || status->name.starts_with(k_engine_prefix)) { continue; }
    const auto line = sys::command_line(pid);
    if (!line || *line != program) { return true; }
  }
  return false;
}

} // namespace lockrun::backends
