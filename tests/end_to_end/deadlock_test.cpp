// Circles of calls that wait for one another: section "Circles" of the manual.

#include "support/eventually.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;

struct Shape {
  const char* name;
  int parties;
  std::vector<std::string> options; // of all calls
};

// Calls that hold a lock each and then, all at once, wait for another one.
class Circle : public ::testing::TestWithParam<Shape> {
protected:
  Circle() { start.in = start.out = k_pipe; }

  std::vector<std::string> call(const std::vector<std::string>& arguments) const
  {
    std::vector<std::string> all = GetParam().options;
    all.insert(all.end(), arguments.begin(), arguments.end());
    return lockrun_argv(all);
  }

  std::string lock(std::size_t number) const { return (dir / ("lock" + std::to_string(number))).string(); }

  // Holds `first`, and waits for `second` when it is told to.
  void add(const std::string& first, const std::string& second)
  {
    const std::string script = "echo held; read go; exec \"$@\"";
    std::vector<std::string> words{first, "sh", "-c", script, "sh"};
    for (const std::string& word : call({second, "echo", "ran"})) { words.push_back(word); }
    parties.emplace_back(call(words), start);
    EXPECT_EQ(parties.back().out_line(), "held");
  }

  void let_all_wait()
  {
    for (Process& party : parties) { party.write("\n"); }
  }

  TempDir dir;
  Start start;
  std::vector<Process> parties;
};

TEST_P(Circle, OneGivesUpAndTheOthersGoOn)
{
  const auto count = static_cast<std::size_t>(GetParam().parties);
  for (std::size_t i = 0; i < count; ++i) { add(lock(i), lock((i + 1) % count)); }
  let_all_wait();
  std::vector<WaitStatus> ends;
  std::string told;
  for (Process& party : parties) {
    const Finished finished = party.wait();
    ends.push_back(finished.status);
    told += finished.err;
  }
  EXPECT_EQ(std::count(ends.begin(), ends.end(), exited(75)), 1);
  EXPECT_EQ(std::count(ends.begin(), ends.end(), exited(0)), GetParam().parties - 1);
  for (std::size_t i = 0; i < count; ++i) { EXPECT_THAT(told, HasSubstr("waits for '" + lock(i) + "'")); }
  EXPECT_THAT(told, HasSubstr(std::to_string(count) + " processes wait for one another in a circle"));
}

const Shape k_shapes[] = {
  {"Two", 2, {}},
  {"Three", 3, {}},
  {"Five", 5, {}},
  {"TwoFair", 2, {"--fair"}},
  {"ThreeFair", 3, {"--fair"}},
  {"FiveFair", 5, {"--fair"}},
  {"TwoWithASlot", 2, {"-j1"}},
  {"ThreeWithASlot", 3, {"-j1"}},
  {"FiveWithASlot", 5, {"-j1"}},
};
INSTANTIATE_TEST_SUITE_P(
  Of, Circle, ::testing::ValuesIn(k_shapes), [](const auto& shape) { return std::string(shape.param.name); });

// The same without a circle: the last one's lock is free in the end, and nobody gives up.
TEST_P(Circle, AChainIsNone)
{
  const auto count = static_cast<std::size_t>(GetParam().parties);
  for (std::size_t i = 0; i < count; ++i) { add(lock(i), lock(i + 1)); }
  Process last(call({lock(count), "sh", "-c", "echo held; read go"}), start);
  ASSERT_EQ(last.out_line(), "held");
  let_all_wait();
  for (std::size_t i = 1; i <= count; ++i) {
    ASSERT_TRUE(eventually([&] { return kernel_waiters(lock(i)) == 1; }));
  }
  // Long enough for two looks of each, as the twin above shows: the observer is a circle of its own.
  std::vector<Process> chain = std::move(parties);
  parties.clear();
  add(dir / "a", dir / "b");
  add(dir / "b", dir / "a");
  let_all_wait();
  for (Process& party : parties) { (void)party.wait(); }
  last.write("\n");
  EXPECT_EQ(last.wait().status, exited(0));
  for (Process& party : chain) { EXPECT_EQ(party.wait().status, exited(0)); }
}

class CircleOfQueues : public ::testing::Test {
protected:
  CircleOfQueues() { start.in = start.out = k_pipe; }

  // Has `first`, and when it is told to waits for `second` if there is one. Runs once it says so.
  Process call(const std::vector<std::string>& options, const std::string& first, const std::string& second = {}) const
  {
    std::vector<std::string> words = options;
    words.insert(words.end(), {first, "sh", "-c", "echo held; read go; exec \"$@\"", "sh"});
    if (second.empty()) {
      words.push_back("true");
    } else {
      words.push_back(lockrun_binary());
      words.insert(words.end(), options.begin(), options.end());
      words.insert(words.end(), {second, "true"});
    }
    return Process(lockrun_argv(words), start);
  }
  bool has_waiters(const std::string& lock, int count) const
  {
    return eventually([&] { return kernel_waiters(lock) == count; });
  }
  // One of the two gave up, and the other one ran. The one that started last has the first chance; but it looks when it
  // is its turn on this machine, which others may have for longer than that chance lasts. Returns what it said.
  static std::string expect_one_gave_up(const Finished& one, const Finished& other)
  {
    const bool other_gave_up = one.status == exited(0);
    EXPECT_EQ((other_gave_up ? one : other).status, exited(0)) << one.err << other.err;
    EXPECT_EQ((other_gave_up ? other : one).status, exited(75)) << one.err << other.err;
    return (other_gave_up ? other : one).err;
  }

  const TempDir dir;
  const std::string a = dir / "a";
  const std::string b = dir / "b";
  Start start;
};

// Whoever waits for one of several slots is in a circle only if all who have them are.
TEST_F(CircleOfQueues, AllSlotsMustBeInIt)
{
  const std::vector<std::string> two{"-j2"};
  std::vector<Process> parties;
  for (const auto& [first, second] : {std::pair(a, b), std::pair(a, b), std::pair(b, a)}) {
    parties.push_back(call(two, first, second));
    ASSERT_EQ(parties.back().out_line(), "held");
  }
  Process last = call(two, b, a);
  ASSERT_EQ(last.out_line(), "held");
  for (Process& party : parties) { party.write("\n"); }
  ASSERT_TRUE(has_waiters(b, 3)); // the first in the queue for two slots, and the second for the first
  ASSERT_TRUE(has_waiters(a, 2));
  {
    // Long enough for two looks of each: these two are a circle of their own.
    Process c = call({}, dir / "c", dir / "d");
    ASSERT_EQ(c.out_line(), "held");
    Process d = call({}, dir / "d", dir / "c");
    ASSERT_EQ(d.out_line(), "held");
    c.write("\n");
    d.write("\n");
    (void)c.wait();
    (void)d.wait();
  }
  ASSERT_TRUE(has_waiters(b, 3)); // nobody has given up
  ASSERT_TRUE(has_waiters(a, 2));
  last.write("\n");
  parties.push_back(std::move(last));
  int gave_up = 0;
  for (Process& party : parties) {
    const Finished finished = party.wait();
    if (finished.status == exited(0)) { continue; }
    EXPECT_EQ(finished.status, exited(75));
    EXPECT_THAT(finished.err, HasSubstr("4 processes wait for one another in a circle"));
    ++gave_up;
  }
  EXPECT_EQ(gave_up, 1);
}

// Who has nothing but its place in the queue could not help by giving up.
TEST_F(CircleOfQueues, WhoOnlyQueuesInFrontOfOneOfThemStays)
{
  const std::vector<std::string> fair{"--fair"};
  Process first = call(fair, a, b);
  ASSERT_EQ(first.out_line(), "held");
  Process second = call(fair, b, a);
  ASSERT_EQ(second.out_line(), "held");
  Process bystander = call(fair, b);
  ASSERT_TRUE(has_waiters(b, 1));
  first.write("\n");
  ASSERT_TRUE(has_waiters(b, 2));
  second.write("\n");
  EXPECT_EQ(bystander.out_line(), "held");
  bystander.write("\n");
  EXPECT_EQ(bystander.wait().status, exited(0));
  const std::string told = expect_one_gave_up(first.wait(), second.wait());
  EXPECT_THAT(told, HasSubstr("2 processes wait for one another in a circle"));
}

// --- parties that may not look into one another ---

struct Pair {
  const char* name;
  uid_t first;
  uid_t second;
  std::vector<std::string> options;
};
class CircleOfUsers : public CircleOfQueues, public ::testing::WithParamInterface<Pair> {
protected:
  Process call_as(uid_t user, const std::string& first, const std::string& second)
  {
    start.before_exec.clear();
    if (user != 0) { start.before_exec = {hostile::become_user(user)}; }
    return call(GetParam().options, first, second);
  }
};

TEST_P(CircleOfUsers, IsSeenByBothAndOneGivesUp)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  std::filesystem::permissions(dir.path(), std::filesystem::perms::all);
  for (const std::string& lock : {a, b}) {
    std::filesystem::permissions(write_file(lock, "", 0666), std::filesystem::perms(0666));
  }
  Process first = call_as(GetParam().first, a, b);
  ASSERT_EQ(first.out_line(), "held");
  Process second = call_as(GetParam().second, b, a);
  ASSERT_EQ(second.out_line(), "held");
  first.write("\n");
  ASSERT_TRUE(has_waiters(b, 1));
  second.write("\n");
  const std::string told = expect_one_gave_up(first.wait(), second.wait());
  EXPECT_THAT(told, HasSubstr("2 processes wait for one another in a circle"));
  for (const std::string& lock : {a, b}) { EXPECT_THAT(told, HasSubstr("waits for '" + lock + "'")); }
}

const Pair k_pairs[] = {
  {"RootAndAnother", 0, k_nobody, {}},
  {"AnotherAndRoot", k_nobody, 0, {}},
  {"TwoOthers", k_nobody - 1, k_nobody, {}},
  {"TwoOthersInQueues", k_nobody - 1, k_nobody, {"--fair"}},
};
INSTANTIATE_TEST_SUITE_P(
  Of, CircleOfUsers, ::testing::ValuesIn(k_pairs), [](const auto& row) { return std::string(row.param.name); });

// It is the same program, and looks. (tests/kernel/ancestry_test.cpp)
TEST_F(CircleOfQueues, OnlyOneGivesUpAlsoWhereTheyWereStartedByTwoNames)
{
  const std::string other_name = dir / "lr";
  std::filesystem::create_symlink(std::filesystem::canonical(lockrun_binary()), other_name);
  const auto party = [&](const std::string& program, const std::string& first, const std::string& second) {
    const std::string script = "echo held; read go; exec " + program + " " + second + " true";
    return Process({program, first, "sh", "-c", script}, start);
  };
  Process one = party(lockrun_binary(), a, b);
  ASSERT_EQ(one.out_line(), "held");
  Process other = party(other_name, b, a);
  ASSERT_EQ(other.out_line(), "held");
  one.write("\n");
  ASSERT_TRUE(has_waiters(b, 1));
  other.write("\n");
  expect_one_gave_up(one.wait(), other.wait());
}

// --- who means to wait

class CircleOfOneThatMeansToWait : public CircleOfQueues {
protected:
  Process party(const std::string& first, const std::string& options, const std::string& second) const
  {
    const std::string script = "echo held; read go; exec " + lockrun_binary() + " " + options + " " + second + " true";
    return Process(lockrun_argv({first, "sh", "-c", script}), start);
  }
};

// And the other one gives up, although it started first.
TEST_F(CircleOfOneThatMeansToWait, ItDoesNotGiveUp)
{
  Process one = party(a, "", b);
  ASSERT_EQ(one.out_line(), "held");
  Process other = party(b, "--nested wait", a);
  ASSERT_EQ(other.out_line(), "held");
  one.write("\n");
  ASSERT_TRUE(has_waiters(b, 1));
  other.write("\n");
  EXPECT_EQ(one.wait().status, exited(75));
  EXPECT_EQ(other.wait().status, exited(0));
}

TEST_F(CircleOfOneThatMeansToWait, NobodyGivesUpWhereAllMeanTo)
{
  Process one = party(a, "--nested wait", b);
  ASSERT_EQ(one.out_line(), "held");
  Process other = party(b, "--nested wait -w 2", a);
  ASSERT_EQ(other.out_line(), "held");
  one.write("\n");
  ASSERT_TRUE(has_waiters(b, 1));
  other.write("\n");
  EXPECT_THAT(other.wait().err, HasSubstr("gave up waiting for '" + a + "' after 2s"));
  EXPECT_EQ(one.wait().status, exited(0));
}

// --- words that fit

TEST_F(CircleOfQueues, OfSlotsOfOneLockHasAHintOfItsOwn)
{
  const std::vector<std::string> two{"-j2"};
  Process one = call(two, a, a);
  ASSERT_EQ(one.out_line(), "held");
  Process other = call(two, a, a);
  ASSERT_EQ(other.out_line(), "held");
  one.write("\n");
  ASSERT_TRUE(has_waiters(a, 2)); // for both slots
  other.write("\n");
  const std::string told = expect_one_gave_up(one.wait(), other.wait());
  EXPECT_THAT(told, HasSubstr("hint: a command that holds a slot must not wait for another one"));
}

// --- crowds

TEST_F(CircleOfQueues, IsSeenThroughALongQueue)
{
  const std::vector<std::string> fair{"--fair"};
  Process first = call(fair, a, b);
  ASSERT_EQ(first.out_line(), "held");
  Process second = call(fair, b, a);
  ASSERT_EQ(second.out_line(), "held");
  constexpr int k_queue = 250; // recursion over them would need more than a waiting thread's stack
  const std::string crowd = "i=0; while [ $i -lt " + std::to_string(k_queue) + " ]; do " + lockrun_binary() +
                            " -q --fair " + b + " true & i=$((i+1)); done; wait";
  Process others({"sh", "-c", crowd}, start);
  ASSERT_TRUE(has_waiters(b, k_queue));
  first.write("\n");
  ASSERT_TRUE(has_waiters(b, k_queue + 1));
  second.write("\n");
  expect_one_gave_up(first.wait(), second.wait());
  EXPECT_EQ(others.wait().status, exited(0));
}

} // namespace
} // namespace lockrun::testing
