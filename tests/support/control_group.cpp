#include "support/control_group.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include <unistd.h>

namespace lockrun::testing {

std::string make_control_group()
{
  std::ifstream mounts("/proc/self/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string device;
    std::string place;
    std::string type;
    words >> device >> place >> type;
    if (type != "cgroup2") { continue; }
    std::string group = place + "/test-" + std::to_string(::getpid());
    std::error_code error;
    return std::filesystem::create_directory(group, error) ? group : std::string();
  }
  return {};
}

} // namespace lockrun::testing
