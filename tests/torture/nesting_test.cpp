// Calls inside calls, and calls for several locks at once, of all kinds: no circle is seen where there is none, and
// none can come up with --also. LOCKRUN_TORTURE_NESTINGS says how many, LOCKRUN_SEED how the dice fall; scripts/torture
// runs long.

#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/shared.hpp"
#include "support/temp_dir.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using Words = std::vector<std::string>;
using Dice = std::mt19937;

int number_from(const char* variable, int otherwise)
{
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::stoi(text) : otherwise;
}

struct Score {
  std::atomic<int> calls;
  std::atomic<int> given_up; // with status 75
  std::atomic<int> failed;   // with any other
};

class Nesting : public ::testing::Test {
protected:
  Nesting()
  {
    for (std::size_t i = 0; i < locks.size(); ++i) { locks[i] = dir / ("lock" + std::to_string(i)); }
    const auto seed =
      static_cast<unsigned>(number_from("LOCKRUN_SEED", static_cast<int>(std::random_device()() >> 1U)));
    std::cout << "LOCKRUN_SEED=" << seed << "\n";
    dice.seed(seed);
    write_file(dir / "counts", std::string(4096, '\0'));
  }

  // Two or three of the locks, in the order in which all are to be taken.
  std::vector<std::size_t> some_locks(Dice& own_dice) const
  {
    std::vector<std::size_t> numbers(locks.size());
    for (std::size_t i = 0; i < numbers.size(); ++i) { numbers[i] = i; }
    std::shuffle(numbers.begin(), numbers.end(), own_dice);
    numbers.resize(2 + own_dice() % 2);
    std::sort(numbers.begin(), numbers.end());
    return numbers;
  }

  // lockrun KIND LOCK lockrun KIND LOCK … true
  Words nested(Dice& own_dice, const std::vector<std::size_t>& numbers) const
  {
    static const Words k_kinds[] = {{}, {"--fair"}, {"-j2"}, {"-s"}, {"--fair", "-s"}};
    Words argv;
    for (const std::size_t number : numbers) {
      argv.push_back(lockrun_binary());
      argv.push_back("-q");
      const Words& kind = k_kinds[own_dice() % std::size(k_kinds)];
      argv.insert(argv.end(), kind.begin(), kind.end());
      argv.push_back(locks[number]);
    }
    argv.push_back("true");
    return argv;
  }

  // Runs one call after another in each of `workers` processes, until there were `enough` or one has given up.
  void run(int workers, int enough, const std::function<Words(Dice&)>& call)
  {
    std::vector<Forked> crowd;
    for (int i = 0; i < workers; ++i) {
      const auto seed = dice();
      crowd.emplace_back([&, seed] {
        Dice own_dice(seed);
        while (score->calls++ < enough && score->given_up == 0 && score->failed == 0) { count(call(own_dice)); }
        return 0;
      });
    }
    for (Forked& worker : crowd) { EXPECT_EQ(worker.wait(), exited(0)); }
  }

  void count(const Words& words)
  {
    std::vector<char*> argv;
    for (const std::string& word : words) { argv.push_back(const_cast<char*>(word.c_str())); }
    argv.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      ::execv(argv.front(), argv.data());
      ::_exit(127);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 75) {
      ++score->given_up;
    } else if (status != 0) {
      ++score->failed;
    }
  }

  const TempDir dir;
  std::array<std::string, 4> locks;
  Dice dice;
  Shared<Score> score;
};

TEST_F(Nesting, InTheSameOrderRaisesNoAlarm)
{
  // So many that they wait for long enough to look for circles, in the long run twice.
  const int nestings = number_from("LOCKRUN_TORTURE_NESTINGS", 200);
  run(nestings > 1'000 ? 48 : 16, nestings, [this](Dice& own_dice) { return nested(own_dice, some_locks(own_dice)); });
  EXPECT_EQ(score->given_up, 0);
  EXPECT_EQ(score->failed, 0);
}

// The twin: in any order some are caught in a circle, and one of them gives up.
TEST_F(Nesting, InAnyOrderMakesCircles)
{
  run(4, 100'000, [this](Dice& own_dice) {
    std::vector<std::size_t> numbers{0, 1};
    std::shuffle(numbers.begin(), numbers.end(), own_dice);
    return nested(own_dice, numbers);
  });
  EXPECT_GT(score->given_up, 0);
  EXPECT_EQ(score->failed, 0);
}

TEST_F(Nesting, SeveralLocksAtOnceMakeNoCircleInAnyOrder)
{
  run(16, number_from("LOCKRUN_TORTURE_NESTINGS", 200), [this](Dice& own_dice) {
    auto numbers = some_locks(own_dice);
    std::shuffle(numbers.begin(), numbers.end(), own_dice);
    Words argv{lockrun_binary(), "-q"};
    if (own_dice() % 2 == 0) { argv.push_back("--fair"); }
    for (std::size_t i = 1; i < numbers.size(); ++i) {
      argv.push_back(i == 1 ? "--also" : "--also-shared");
      argv.push_back(locks[numbers[i]]);
    }
    // Each lock has a witness: whoever has it exclusively meets nobody.
    const std::string witness = dir / ("witness" + std::to_string(numbers[own_dice() % 2]));
    argv.insert(argv.end(), {locks[numbers[0]], program("section"), witness, dir / "counts"});
    return argv;
  });
  EXPECT_EQ(score->given_up, 0);
  EXPECT_EQ(score->failed, 0);
  const std::string counts = read_file(dir / "counts");
  EXPECT_NE(counts.substr(0, 8), std::string(8, '\0')); // sections
  EXPECT_EQ(counts.substr(8, 8), std::string(8, '\0')); // meetings
}

} // namespace
} // namespace lockrun::testing
