#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lockrun::testing {

// What the log of many `ticker`s tells about the lock that they ran under.
struct LogVerdict {
  std::size_t sections = 0;
  std::size_t refused = 0;             // writes of those who came too late
  std::vector<std::string> overlaps;   // two were at it at once
  std::vector<std::string> inversions; // one that began later had no greater token
  std::vector<std::string> stale;      // the register took an old token after a newer one, or refused the newest
  std::vector<std::string> oddities;   // lines that no ticker writes
};
LogVerdict check_log(const std::string& log);

// What is left of the lock in the server once everybody has gone: keys and leases that are not there `before`.
std::vector<std::string> leftovers(const std::vector<std::string>& before, const std::vector<std::string>& after);

} // namespace lockrun::testing
