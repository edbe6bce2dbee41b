#include "support/wall_clock.hpp"

#include "support/programs.hpp"

#include <atomic>
#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

constexpr std::size_t k_size = 2 * sizeof(std::int64_t);

} // namespace

WallClock::WallClock()
{
  const auto path = write_file(m_directory / "clock", std::string(k_size, '\0'));
  const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  void* const place = ::mmap(nullptr, k_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  const int code = errno;
  ::close(file);
  if (place == MAP_FAILED) { throw std::system_error(code, std::generic_category(), "mmap"); }
  m_numbers = static_cast<std::int64_t*>(place);
}

WallClock::~WallClock()
{
  ::munmap(m_numbers, k_size);
}

std::map<std::string, std::optional<std::string>> WallClock::environment() const
{
  return {{"LD_PRELOAD", program("wall_clock.so")}, {"LOCKRUN_TEST_CLOCK", (m_directory / "clock").string()}};
}

void WallClock::set(std::chrono::seconds ahead)
{
  std::atomic_ref<std::int64_t>(m_numbers[0]).store(ahead.count());
}

std::int64_t WallClock::looks() const
{
  return std::atomic_ref<std::int64_t>(m_numbers[1]).load();
}

} // namespace lockrun::testing
