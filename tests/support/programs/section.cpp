// section WITNESS COUNTS: a critical section that sees others in it and may be killed anywhere. The witness is a lock
// of its own (POSIX: the kernel drops it before it drops what the process inherited), never waited for. COUNTS is a
// file of three numbers: sections entered, others met, and the process in the section. With LOCKRUN_SLOT there is one
// witness for each slot.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int, char** argv)
{
  const char* const slot = std::getenv("LOCKRUN_SLOT");
  const int witness =
    ::open((std::string(argv[1]) + (slot != nullptr ? slot : "")).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  const int file = ::open(argv[2], O_RDWR | O_CLOEXEC);
  if (witness < 0 || file < 0) { return 2; }
  void* const page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (page == MAP_FAILED) { return 2; }
  auto* const counts = static_cast<std::atomic<std::int64_t>*>(page);
  struct ::flock whole {};
  whole.l_type = F_WRLCK;
  if (::fcntl(witness, F_SETLK, &whole) != 0) { counts[1].fetch_add(1); }
  counts[0].fetch_add(1);
  counts[2].store(::getpid());
  for (int i = 0; i < 20; ++i) { ::sched_yield(); } // lets the others try
  counts[2].store(0);
  return 0; // the witness's lock goes with us
}
