// ticker LOG MS: for MS milliseconds, or until the file LOG.stop is there, writes to a register every 5 ms and adds
// what came of it to LOG: "begin PID TOKEN NS", "tick PID TOKEN NS"… and "end PID TOKEN NS", with LOCKRUN_TOKEN and
// CLOCK_MONOTONIC, which is one clock for all processes of a machine; "refused PID TOKEN NS" instead of "tick" when the
// register has taken a greater token before. The register is the file LOG.register, and fenced: it holds the greatest
// token that it has seen.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace {

long long now()
{
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

int open_file(const std::string& path, int flags)
{
  const int file = open(path.c_str(), flags | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) { _exit(66); }
  return file;
}

} // namespace

int main(int argc, char** argv)
{
  if (argc != 3) { return 64; }
  const std::string path = argv[1];
  const int log = open_file(path, O_WRONLY | O_APPEND);
  const int fence = open_file(path + ".register", O_RDWR);
  const char* const word = getenv("LOCKRUN_TOKEN");
  const long long token = word != nullptr ? atoll(word) : 0;
  const auto tell = [&](const char* what) {
    char line[128];
    const int length = snprintf(line, sizeof line, "%s %d %lld %lld\n", what, getpid(), token, now());
    if (write(log, line, static_cast<size_t>(length)) != length) { _exit(74); }
  };
  const auto write_register = [&] {
    if (flock(fence, LOCK_EX) != 0) { _exit(74); } // the log gets its lines in the order of the writes
    long long greatest = 0;
    const bool is_stale = pread(fence, &greatest, sizeof greatest, 0) == sizeof greatest && greatest > token;
    if (!is_stale && pwrite(fence, &token, sizeof token, 0) != sizeof token) { _exit(74); }
    tell(is_stale ? "refused" : "tick");
    flock(fence, LOCK_UN);
  };
  const std::string stop = path + ".stop";
  const long long end = now() + atoll(argv[2]) * 1'000'000;
  tell("begin");
  write_register();
  while (now() < end && access(stop.c_str(), F_OK) != 0) {
    const timespec pause{0, 5'000'000};
    nanosleep(&pause, nullptr);
    write_register();
  }
  tell("end");
  return 0;
}
