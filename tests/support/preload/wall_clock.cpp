// For LD_PRELOAD: a stand-in for the wall clock of one program, which cannot be set without setting that of the whole
// machine. The file LOCKRUN_TEST_CLOCK has two numbers of 64 bits: the seconds to add to what the kernel says, and how
// often somebody has looked. See support/wall_clock.hpp.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <ctime>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

namespace {

std::atomic<std::int64_t>* map_file()
{
  const char* const path = getenv("LOCKRUN_TEST_CLOCK");
  const int file = path != nullptr ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) { return nullptr; }
  void* const place = mmap(nullptr, 2 * sizeof(std::int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  return place != MAP_FAILED ? static_cast<std::atomic<std::int64_t>*>(place) : nullptr;
}

std::atomic<std::int64_t>* numbers()
{
  static std::atomic<std::int64_t>* const mapped = map_file();
  return mapped;
}

} // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept
{
  const long result = syscall(SYS_clock_gettime, clock, time);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) && numbers() != nullptr) {
    time->tv_sec += numbers()[0];
    ++numbers()[1];
  }
  return static_cast<int>(result);
}

int gettimeofday(timeval* time, void*) noexcept
{
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  *time = {now.tv_sec, now.tv_nsec / 1'000};
  return 0;
}

time_t time(time_t* place) noexcept
{
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (place != nullptr) { *place = now.tv_sec; }
  return now.tv_sec;
}
}
