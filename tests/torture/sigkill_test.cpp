// Anybody may be killed at any moment: the command, the lockrun that runs it, one that waits. Never are two commands
// inside at once, and never is a lock left behind. LOCKRUN_TORTURE_SECTIONS says how many sections there are to be,
// LOCKRUN_SEED how the dice fall; scripts/torture runs long.

#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

std::int64_t number_from(const char* variable, std::int64_t otherwise)
{
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::stoll(text) : otherwise;
}

// Counted by tests/support/programs/section.cpp.
class Counts {
public:
  explicit Counts(const std::filesystem::path& path)
  {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    EXPECT_EQ(::ftruncate(fd, 4096), 0);
    m_page = static_cast<std::atomic<std::int64_t>*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    ::close(fd);
  }
  ~Counts() { ::munmap(m_page, 4096); }
  std::int64_t sections() const { return m_page[0].load(); }
  std::int64_t meetings() const { return m_page[1].load(); }
  pid_t inside() const { return static_cast<pid_t>(m_page[2].load()); }

private:
  std::atomic<std::int64_t>* m_page;
};

enum class Locked { yes, no };

struct Variant {
  const char* name;
  std::vector<std::string> options;
};

class Sigkill : public ::testing::TestWithParam<Variant> {
protected:
  std::vector<std::string> call(Locked locked) const
  {
    const std::vector<std::string> section = {program("section"), dir / "witness", dir / "counts"};
    if (locked == Locked::no) { return section; }
    std::vector<std::string> arguments{"-q"};
    arguments.insert(arguments.end(), GetParam().options.begin(), GetParam().options.end());
    arguments.push_back(dir / "lock");
    arguments.insert(arguments.end(), section.begin(), section.end());
    return lockrun_argv(arguments);
  }

  // Starts one call after another until there were enough sections, and throws dice for who is killed when.
  int work(unsigned seed, std::int64_t enough, Locked locked) const
  {
    std::mt19937 dice(seed);
    const std::vector<std::string> words = call(locked);
    std::vector<char*> argv;
    for (const std::string& word : words) { argv.push_back(const_cast<char*>(word.c_str())); }
    argv.push_back(nullptr);
    while (counts.sections() < enough) {
      const pid_t child = ::fork();
      if (child == 0) {
        ::execv(argv.front(), argv.data());
        ::_exit(127);
      }
      if (child < 0) { return 1; }
      const auto what = dice() % 4;
      if (what < 2) {
        // The dice's moment, not an event's: the test is about any moment.
        const timespec moment{0, static_cast<long>(dice() % 3'000'000)};
        ::nanosleep(&moment, nullptr);
        const pid_t inside = counts.inside();
        if (what == 0) {
          ::kill(child, SIGKILL);
        } else if (inside > 0 && is_section(inside)) {
          ::kill(inside, SIGKILL);
        }
      }
      ::waitpid(child, nullptr, 0);
    }
    return 0;
  }

  // The number could be somebody else's by now.
  static bool is_section(pid_t pid)
  {
    std::error_code error;
    return std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/exe", error) == program("section");
  }

  void run(std::int64_t enough, Locked locked)
  {
    const auto seed = static_cast<unsigned>(number_from("LOCKRUN_SEED", std::random_device()()));
    std::cout << "LOCKRUN_SEED=" << seed << "\n";
    std::vector<Forked> workers;
    for (unsigned i = 0; i < 8; ++i) {
      workers.emplace_back([&, i] { return work(seed + i, enough, locked); });
    }
    for (Forked& worker : workers) { EXPECT_EQ(worker.wait(), exited(0)); }
  }

  TempDir dir;
  Counts counts{dir / "counts"};
};

TEST_P(Sigkill, NeverTwoInsideAndNoLockLeftBehind)
{
  run(number_from("LOCKRUN_TORTURE_SECTIONS", 300), Locked::yes);
  EXPECT_EQ(counts.meetings(), 0);
  // A command whose lockrun was killed may be in its section still; what holds the lock then is gone in a moment.
  std::vector<std::string> probe{"-w", "60"};
  probe.insert(probe.end(), GetParam().options.begin(), GetParam().options.end());
  probe.insert(probe.end(), {dir / "lock", "true"});
  EXPECT_EQ(run_program(lockrun_argv(probe)).status, exited(0));
}

// The twin: a witness that sees nobody without the lock would be blind with it too.
TEST_P(Sigkill, WithoutTheLockTheyMeet)
{
  run(300, Locked::no);
  EXPECT_GT(counts.meetings(), 0);
}

INSTANTIATE_TEST_SUITE_P(Calls, Sigkill,
  ::testing::Values(Variant{"Default", {}}, Variant{"Ofd", {"--api", "ofd"}}, Variant{"Tree", {"--hold", "tree"}},
    Variant{"Unlink", {"--unlink"}}, Variant{"NoFork", {"-F"}}, Variant{"Fair", {"--fair"}},
    Variant{"Slot", {"--slots", "1"}}, Variant{"Slots", {"--slots", "4"}}),
  [](const auto& variant) { return std::string(variant.param.name); });

} // namespace
} // namespace lockrun::testing
