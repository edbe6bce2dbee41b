#include "support/witness.hpp"

#include "support/temp_dir.hpp"

#include <cerrno>

#include <fcntl.h>
#include <fmt/core.h>
#include <sched.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

constexpr int k_yields = 20;

void add_byte(const std::filesystem::path& path)
{
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  (void)!::write(fd, "x", 1); // a missing byte shows as a missing visit
  ::close(fd);
}

int bytes_in(const std::filesystem::path& path)
{
  return static_cast<int>(read_file(path).size());
}

} // namespace

Witness::Witness(const std::filesystem::path& directory)
  : m_marker(directory / "inside"), m_meetings(directory / "meetings"), m_visits(directory / "visits")
{}

void Witness::visit() const
{
  const int fd = ::open(m_marker.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0 && errno == EEXIST) { add_byte(m_meetings); }
  for (int i = 0; i < k_yields; ++i) { ::sched_yield(); }
  if (fd >= 0) {
    ::unlink(m_marker.c_str());
    ::close(fd);
  }
  add_byte(m_visits);
}

std::string Witness::visit_in_shell() const
{
  return fmt::format("if mkdir '{0}' 2>/dev/null; then rmdir '{0}'; else printf x >>'{1}'; fi; printf x >>'{2}'",
    m_marker.native(), m_meetings.native(), m_visits.native());
}

int Witness::meetings() const
{
  return bytes_in(m_meetings);
}

int Witness::visits() const
{
  return bytes_in(m_visits);
}

} // namespace lockrun::testing
