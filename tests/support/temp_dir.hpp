#pragma once

#include <filesystem>
#include <string>

#include <sys/types.h>

namespace lockrun::testing {

// A new directory, removed with all in it at the end; when the test has failed it is kept and its path is printed.
class TempDir {
public:
  explicit TempDir(const std::filesystem::path& under = std::filesystem::temp_directory_path());
  ~TempDir(); // a forked process's copy does nothing
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::filesystem::path& path() const noexcept { return m_path; }

private:
  std::filesystem::path m_path;
  pid_t m_owner;
};

inline std::filesystem::path operator/(const TempDir& directory, const std::filesystem::path& name)
{
  return directory.path() / name;
}

// Makes `path` with these bytes in it, and returns it.
std::filesystem::path write_file(const std::filesystem::path& path, const std::string& bytes, mode_t mode = 0644);

// All that is in `path`; empty when it cannot be read.
std::string read_file(const std::filesystem::path& path);

} // namespace lockrun::testing
