#pragma once

#include "support/temp_dir.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace lockrun::testing {

// A wall clock that programs see instead of the machine's, if they are linked dynamically, and that can jump. It is a
// stand-in (support/preload/wall_clock.cpp): what the kernel itself would do at a jump is not part of it.
class WallClock {
public:
  WallClock();
  ~WallClock();
  WallClock(const WallClock&) = delete;
  WallClock& operator=(const WallClock&) = delete;

  std::map<std::string, std::optional<std::string>> environment() const; // for Start::environment
  void set(std::chrono::seconds ahead);
  std::int64_t looks() const; // how often it was read

private:
  TempDir m_directory;
  std::int64_t* m_numbers;
};

} // namespace lockrun::testing
