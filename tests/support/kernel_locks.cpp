#include "support/kernel_locks.hpp"

#include "support/temp_dir.hpp"

#include <algorithm>
#include <sstream>

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

std::string proc_locks()
{
  const int fd = ::open("/proc/locks", O_RDONLY | O_CLOEXEC);
  std::string bytes(1 << 20, '\0');
  std::size_t used = 0;
  // On its way to a place that is not there the kernel makes its pieces as long as the longest record: they get few.
  constexpr off_t k_nowhere = off_t{1} << 40;
  [[maybe_unused]] const auto nothing = ::pread(fd, bytes.data(), 1, k_nowhere);
  // One piece is whole. Where there are always more the last try must do.
  constexpr int k_most_tries = 100;
  for (int i = 0; i < k_most_tries; ++i) {
    int pieces = 0;
    used = 0;
    for (ssize_t got = 0;
         (got = ::pread(fd, bytes.data() + used, bytes.size() - used, static_cast<off_t>(used))) > 0;) {
      used += static_cast<std::size_t>(got);
      ++pieces;
    }
    if (pieces <= 1) { break; }
  }
  ::close(fd);
  bytes.resize(used);
  return bytes;
}

std::vector<KernelLockLine> read_once(const std::filesystem::path& path)
{
  struct ::stat status {};
  if (::stat(path.c_str(), &status) != 0) { return {}; }
  const std::string wanted =
    fmt::format("{:02x}:{:02x}:{}", ::major(status.st_dev), ::minor(status.st_dev), status.st_ino);
  std::vector<KernelLockLine> found;
  std::istringstream lines(proc_locks());
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    KernelLockLine lock;
    std::string word;
    std::string file;
    words >> word >> word;
    lock.waits = word == "->";
    if (lock.waits) { words >> word; }
    lock.api = word;
    words >> word >> lock.mode >> lock.pid >> file >> lock.start >> lock.end;
    if (file == wanted) { found.push_back(lock); }
  }
  return found;
}

} // namespace

std::vector<KernelLockLine> kernel_locks(const std::filesystem::path& path)
{
  // The kernel gives it in pieces. When somebody locks or unlocks any file between two of them, lines
  // are told twice or not at all: what two readings agree on is believed.
  constexpr int k_most_readings = 100;
  auto found = read_once(path);
  for (int i = 1; i < k_most_readings; ++i) {
    auto again = read_once(path);
    const bool agrees = again == found;
    found = std::move(again);
    if (agrees) { break; }
  }
  return found;
}

std::vector<KernelLockLine> kernel_holders(const std::filesystem::path& path)
{
  auto all = kernel_locks(path);
  all.erase(std::remove_if(all.begin(), all.end(), [](const auto& lock) { return lock.waits; }), all.end());
  return all;
}

int kernel_waiters(const std::filesystem::path& path)
{
  const auto all = kernel_locks(path);
  return static_cast<int>(std::count_if(all.begin(), all.end(), [](const auto& lock) { return lock.waits; }));
}

bool is_stamped(const std::filesystem::path& path)
{
  const auto holders = kernel_holders(path);
  if (holders.empty()) { return false; }
  const std::string descriptors = "/proc/" + std::to_string(holders.front().pid) + "/fdinfo";
  std::error_code gone;
  for (const auto& one : std::filesystem::directory_iterator(descriptors, gone)) {
    const std::string info = read_file(one.path());
    if (info.find("FLOCK") != info.npos && !info.starts_with("pos:\t0\n")) { return true; }
  }
  return false;
}

} // namespace lockrun::testing
