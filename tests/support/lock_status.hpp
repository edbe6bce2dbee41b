#pragma once

#include <lockrun/request.hpp>
#include <lockrun/status.hpp>

#include <filesystem>
#include <vector>

#include <sys/types.h>

namespace lockrun::testing {

inline LockRequest request_for(const std::filesystem::path& path, Api api = Api::flock)
{
  LockRequest request;
  request.path = path;
  request.api = api;
  return request;
}

// In the order in which they were found.
inline std::vector<pid_t> pids_of(const std::vector<Holder>& holders)
{
  std::vector<pid_t> pids;
  for (const Holder& holder : holders) { pids.push_back(holder.pid); }
  return pids;
}

} // namespace lockrun::testing
