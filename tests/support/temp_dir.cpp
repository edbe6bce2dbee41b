#include "support/temp_dir.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {

TempDir::TempDir(const std::filesystem::path& under) : m_owner(::getpid())
{
  std::string name = under / "lockrun-test-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) { throw std::system_error(errno, std::generic_category(), name); }
  m_path = name;
  ::chmod(name.c_str(), 0755); // for tests that drop to another user
}

TempDir::~TempDir()
{
  if (::getpid() != m_owner) { return; }
  if (::testing::Test::HasFailure()) {
    (void)std::printf("the test's directory is kept: %s\n", m_path.c_str());
    return;
  }
  std::error_code ignored; // a directory left behind fails no test
  std::filesystem::remove_all(m_path, ignored);
}

std::filesystem::path write_file(const std::filesystem::path& path, const std::string& bytes, mode_t mode)
{
  std::ofstream(path, std::ios::binary) << bytes;
  if (::chmod(path.c_str(), mode) != 0) { throw std::system_error(errno, std::generic_category(), path); }
  return path;
}

std::string read_file(const std::filesystem::path& path)
{
  std::ostringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

} // namespace lockrun::testing
