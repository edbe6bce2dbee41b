#pragma once

#include "support/process.hpp"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

// lockrun under the name of flock.
namespace lockrun::testing {

using Words = std::vector<std::string>;

inline constexpr const char* k_search_path = "/usr/bin:/bin";

// The word "flock" means ours for the process that is started, but not for its command.
void search_ours(Start& start);

Words flock_argv(const Words& arguments);

Process start_ours(const Words& arguments, Start start = {});

Finished run_ours(const Words& arguments, const Start& start = {});

// In the kernel's list: found by pid, because device numbers are not stat's everywhere.
bool waits_for_lock(pid_t pid);

// A descriptor of the test's.
class Opened {
public:
  explicit Opened(int fd = -1) : m_fd(fd) {}
  Opened(const std::filesystem::path& path, int flags) : m_fd(::open(path.c_str(), flags | O_CLOEXEC)) {}
  Opened(Opened&& other) noexcept : m_fd(std::exchange(other.m_fd, -1)) {}
  Opened& operator=(Opened&& other) noexcept
  {
    std::swap(m_fd, other.m_fd);
    return *this;
  }
  ~Opened() { close(); }
  void close()
  {
    if (m_fd >= 0) { ::close(std::exchange(m_fd, -1)); }
  }
  int get() const noexcept { return m_fd; }

private:
  int m_fd;
};

} // namespace lockrun::testing
