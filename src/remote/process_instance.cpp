#include "remote/process_instance.hpp"

#include "kernel/ancestry.hpp"
#include "sys/file.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <utility>

namespace lockrun::remote {

std::string instance_of(const sys::ProcessStatus& process)
{
  auto text = sys::read_file("/proc/sys/kernel/random/boot_id");
  const auto numbers = sys::stat("/proc/self/ns/pid");
  if (!text || !numbers) { return {}; }
  text->erase(std::min(text->find('\n'), text->size()));
  return *text + "/" + std::to_string(numbers->identity.inode) + "/" + std::to_string(process.start);
}

bool is_ancestor(pid_t pid, std::string_view instance)
{
  if (instance.empty()) { return false; }
  auto child = sys::process_status(sys::process_id());
  while (child && child->parent > 0) {
    auto status = sys::process_status(child->parent);
    if (!status || kernel::is_adopted(*child, *status)) { return false; }
    if (status->pid == pid) { return instance == instance_of(*status); }
    child = std::move(status);
  }
  return false;
}

} // namespace lockrun::remote
