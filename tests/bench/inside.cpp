// What runs inside the process, without its start: reading a command line, reading /proc/locks.
#include "options/parse.hpp"
#include "sys/proc.hpp"

#include <benchmark/benchmark.h>

#include <array>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

namespace {

using namespace lockrun;

void parse(benchmark::State& state, std::vector<std::string> words)
{
  std::vector<char*> argv;
  for (std::string& word : words) { argv.push_back(word.data()); }
  argv.push_back(nullptr);
  for (auto _ : state) { benchmark::DoNotOptimize(cli::parse_options(static_cast<int>(words.size()), argv.data())); }
}
BENCHMARK_CAPTURE(parse, no_options, {"lockrun", "/tmp/app.lock", "true"});
BENCHMARK_CAPTURE(parse, nonblock, {"lockrun", "-n", "/tmp/app.lock", "true"});
BENCHMARK_CAPTURE(parse, wait_and_status, {"lockrun", "-w", "5", "-E", "3", "/tmp/app.lock", "true"});
BENCHMARK_CAPTURE(parse, long_options,
  {"lockrun", "--shared", "--wait=1h30m", "--hold=tree", "--mode=640", "--verbose", "/tmp/app.lock", "true"});

void help(benchmark::State& state)
{
  for (auto _ : state) { benchmark::DoNotOptimize(cli::help()); }
}
BENCHMARK(help)->Unit(benchmark::kMicrosecond);

// Ours and whatever else the machine holds: locks on single bytes of a file, which the kernel cannot merge.
void read_locks(benchmark::State& state)
{
  std::string path = "/tmp/lockrun-bench-XXXXXX";
  const int fd = ::mkstemp(path.data());
  if (fd < 0) {
    state.SkipWithError("cannot make a file in /tmp");
    return;
  }
  (void)::unlink(path.c_str());
  for (off_t byte = 0; byte < state.range(0); ++byte) {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte * 2;
    lock.l_len = 1;
    if (::fcntl(fd, F_SETLK, &lock) != 0) { state.SkipWithError("cannot lock"); }
  }
  for (auto _ : state) { benchmark::DoNotOptimize(sys::all_locks()); }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  ::close(fd);
}
BENCHMARK(read_locks)->Arg(10)->Arg(1000)->Arg(10000)->Unit(benchmark::kMicrosecond);

void own_descriptors(benchmark::State& state)
{
  const auto identity = sys::stat("/")->identity;
  for (auto _ : state) { benchmark::DoNotOptimize(sys::descriptors_of(::getpid(), identity)); }
}
BENCHMARK(own_descriptors)->Unit(benchmark::kMicrosecond);

} // namespace

BENCHMARK_MAIN();
