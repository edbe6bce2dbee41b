#include "lock/deadlock.hpp"

#include "kernel/queue.hpp"
#include "support/fake_sys.hpp"
#include "sys/file.hpp"
#include "sys/proc.hpp"

#include <cerrno>
#include <chrono>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

namespace lockrun::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using sys::LockLine;
using ::testing::ElementsAre;
using ::testing::SizeIs;

constexpr pid_t k_us = 100;
constexpr pid_t k_shell = 50;
constexpr ino_t k_ours = 7;
constexpr ino_t k_wanted = 5;
constexpr ino_t k_another = 6;

LockLine held_by(pid_t pid, ino_t inode)
{
  LockLine line;
  line.pid = pid;
  line.inode = inode;
  return line;
}

LockLine wanted_by(pid_t pid, ino_t inode)
{
  LockLine line = held_by(pid, inode);
  line.waits = true;
  return line;
}

// Our process has one lock and waits for another.
class ASearch : public ::testing::Test {
protected:
  ASearch()
  {
    for (int i = 0; i < 100; ++i) { kernel.answers("process_id", k_us); }
  }

  void is_process(pid_t pid, pid_t parent, std::uint64_t start, const std::string& name = "lockrun")
  {
    sys::ProcessStatus status;
    status.pid = pid;
    status.parent = parent;
    status.start = start;
    status.name = name;
    kernel.answers("process_status", status);
  }
  // The next one whose descriptors are asked for.
  void has_lock(pid_t pid, ino_t inode)
  {
    sys::FileStatus file;
    file.identity = {2, inode}; // not where /proc is
    file.type = sys::FileType::regular;
    kernel.answers("descriptors_of", std::vector<int>{9});
    kernel.answers("descriptor_status", file);
    kernel.answers("locks_of", std::vector<LockLine>{held_by(pid, inode)});
  }
  void takes(nanoseconds work)
  {
    kernel.answers("thread_time", nanoseconds(0));
    kernel.answers("thread_time", work);
  }
  // We and so many other processes, which wait for `first` (one of them) and for a lock that is not ours (the others);
  // the shell is the parent of all.
  void are_beside_us(int count, ino_t first = k_another)
  {
    std::vector<LockLine> lines{held_by(1, k_another), wanted_by(k_us, k_wanted)};
    for (int i = 0; i < count; ++i) {
      lines.push_back(wanted_by(k_us + 1 + i, i == 0 ? first : k_another));
      is_process(k_us + 1 + i, k_shell, 2);
    }
    kernel.answers("all_locks", lines);
  }

  FakeSys kernel;
  DeadlockSearch search;
};

TEST_F(ASearch, ReadsEveryProcessOnce)
{
  is_process(k_us, k_shell, 2);
  has_lock(k_us, k_ours);
  is_process(k_shell, 1, 1);
  is_process(1, 0, 0, "init");
  are_beside_us(20, k_ours);
  EXPECT_FALSE(search.look());
  const auto read = kernel.calls("process_status");
  EXPECT_THAT(read, SizeIs(23));
  EXPECT_EQ(std::set<std::string>(read.begin(), read.end()).size(), read.size());
  EXPECT_THAT(kernel.calls("descriptors_of"), SizeIs(23));
}

// Then it is in no circle.
TEST_F(ASearch, ReadsOnlyItsOwnTreeWhenNothingWaitsForWhatThatHolds)
{
  is_process(k_us, k_shell, 2);
  has_lock(k_us, k_ours);
  is_process(k_shell, 1, 1);
  is_process(1, 0, 0, "init");
  are_beside_us(20);
  EXPECT_FALSE(search.look());
  EXPECT_THAT(
    kernel.calls("process_status"), ElementsAre("process_status(100)", "process_status(50)", "process_status(1)"));
  EXPECT_THAT(kernel.calls("descriptors_of"), SizeIs(3));
}

// They look once a minute.
TEST_F(ASearch, RestsAsLongAsItsWorkAsksForWhoeverElseWaits)
{
  is_process(k_us, k_shell, 2);
  has_lock(k_us, k_ours);
  is_process(k_shell, 0, 1);
  are_beside_us(300, k_ours);
  takes(milliseconds(10));
  EXPECT_FALSE(search.look());
  EXPECT_EQ(search.pause(), seconds(1));
}

TEST_F(ASearch, RestsLongerWhenManyLook)
{
  is_process(k_us, k_shell, 2);
  has_lock(k_us, k_ours);
  is_process(k_shell, 0, 1);
  has_lock(k_shell, k_another);
  are_beside_us(79); // eighty with us
  takes(milliseconds(5));
  EXPECT_FALSE(search.look());
  EXPECT_EQ(search.pause(), seconds(4));
}

TEST_F(ASearch, DoesNotReadTheLocksOfAllWhenItsTreeHasNone)
{
  is_process(k_us, k_shell, 2);
  is_process(k_shell, 0, 1);
  EXPECT_FALSE(search.look());
  EXPECT_THAT(kernel.calls("all_locks"), SizeIs(0));
  EXPECT_EQ(search.pause(), DeadlockSearch::k_longest_pause);
}

// All who wait below a session of another user's would read them: together they take 1 % of a processor.
TEST_F(ASearch, RestsVeryLongWhereItHadToReadThemForNothing)
{
  is_process(k_us, k_shell, 2);
  is_process(k_shell, 0, 1, "sshd");
  kernel.succeeds("descriptors_of");
  kernel.fails("descriptors_of", EACCES);
  std::vector<LockLine> lines{held_by(1, k_wanted)};
  for (int i = 0; i < 1000; ++i) { lines.push_back(wanted_by(k_us + i, k_wanted)); }
  kernel.answers("all_locks", lines);
  takes(milliseconds(5));
  EXPECT_FALSE(search.look());
  EXPECT_EQ(search.pause(), seconds(500));
}

// A circle of two, whose other one is 301, in a command of 300.
class ACircle : public ASearch {
protected:
  void is_looked_at(std::uint64_t our_start, std::uint64_t its_start, const char* its_name = "lockrun")
  {
    is_process(k_us, 0, our_start);
    has_lock(k_us, k_ours);
    is_process(301, 300, its_start, its_name);
    is_process(300, 0, 1);
    kernel.fails("descriptors_of", EACCES);
    kernel.fails("descriptors_of", EACCES);
    kernel.answers("all_locks", std::vector<LockLine>{held_by(k_us, k_ours), wanted_by(301, k_ours),
                                  held_by(300, k_wanted), wanted_by(k_us, k_wanted)});
  }
  std::optional<std::vector<Party>> looks_twice(
    std::uint64_t our_start, std::uint64_t its_start, const char* its_name = "lockrun")
  {
    is_looked_at(our_start, its_start, its_name);
    EXPECT_FALSE(search.look());
    EXPECT_EQ(search.pause(), seconds(1));
    is_looked_at(our_start, its_start, its_name);
    is_process(k_us, 0, our_start);
    is_process(301, 300, its_start, its_name);
    return search.look();
  }
};

TEST_F(ACircle, IsSeenAlsoWhereItsOtherProcessesMayNotBeLookedInto)
{
  const auto parties = looks_twice(9, 2);
  ASSERT_TRUE(parties);
  ASSERT_THAT(*parties, SizeIs(2));
  EXPECT_EQ((*parties)[0].pid, k_us);
  EXPECT_EQ((*parties)[1].pid, 301);
}

TEST_F(ACircle, IsLeftToOneThatStartedLaterByWhateverName)
{
  EXPECT_FALSE(looks_twice(2, 9, "lr"));
}

// Between users it may not see the circle.
TEST_F(ACircle, IsLeftToALaterOneForTwoSecondsOnly)
{
  for (const int now : {10, 11, 13}) { kernel.answers("steady_now", nanoseconds(seconds(now))); }
  EXPECT_FALSE(looks_twice(2, 9));
  EXPECT_EQ(search.pause(), seconds(2));
  for (int i = 0; i < 2; ++i) {
    const bool is_last = i == 1;
    is_looked_at(2, 9);
    is_process(k_us, 0, 2);
    is_process(301, 300, 9);
    EXPECT_EQ(search.look().has_value(), is_last);
  }
}

TEST_F(ACircle, ThatWasBrokenMeanwhileStartsThatTimeAnew)
{
  for (const int now : {10, 20}) { kernel.answers("steady_now", nanoseconds(seconds(now))); }
  EXPECT_FALSE(looks_twice(2, 9));
  is_process(k_us, 0, 2);
  has_lock(k_us, k_ours);
  kernel.answers("all_locks", std::vector<LockLine>{held_by(k_us, k_ours), wanted_by(k_us, k_wanted)});
  EXPECT_FALSE(search.look());
  EXPECT_FALSE(looks_twice(2, 9));
  EXPECT_EQ(search.pause(), seconds(2));
}

TEST_F(ACircle, IsNotLeftToOneThatDoesNotLook)
{
  EXPECT_TRUE(looks_twice(2, 9, "flock"));
}

TEST_F(ACircle, IsNotLeftToAnotherProgram)
{
  for (int i = 0; i < 4; ++i) { kernel.succeeds("stat"); } // of /proc, for the turns to look
  sys::FileStatus program;
  program.identity = {1, 2};
  kernel.succeeds("stat");
  kernel.answers("stat", program);
  EXPECT_TRUE(looks_twice(2, 9, "python"));
  EXPECT_EQ(kernel.calls("stat").back(), "stat('/proc/301/exe')");
}

// --- what others decide the length of

// Looks on a stack like that of the thread that does it, which recursion would soon use up.
std::optional<std::vector<Party>> look_on_a_small_stack(DeadlockSearch& search)
{
  struct Look {
    DeadlockSearch* search;
    std::optional<std::vector<Party>> found;
  } look{&search, {}};
  const auto body = [](void* argument) -> void* {
    auto& it = *static_cast<Look*>(argument);
    it.found = it.search->look();
    return nullptr;
  };
  constexpr std::size_t k_stack_bytes = 256 * 1024; // an unoptimised fake kernel needs more than 64 KiB
  pthread_attr_t attributes;
  EXPECT_EQ(::pthread_attr_init(&attributes), 0);
  EXPECT_EQ(::pthread_attr_setstacksize(&attributes, k_stack_bytes), 0);
  pthread_t thread{};
  EXPECT_EQ(::pthread_create(&thread, &attributes, body, &look), 0);
  EXPECT_EQ(::pthread_join(thread, nullptr), 0);
  (void)::pthread_attr_destroy(&attributes);
  return std::move(look.found);
}

constexpr int k_many = 5000;
constexpr pid_t k_first = 1000;

class ACrowd : public ASearch {
protected:
  // Ours is in nobody's tree.
  void are_we(std::uint64_t start)
  {
    is_process(k_us, 0, start);
    has_lock(k_us, k_ours);
  }
  void holds(pid_t pid, const LockLine& line)
  {
    is_process(pid, 0, 3);
    sys::FileStatus file;
    file.identity = {2, line.inode};
    file.type = sys::FileType::regular;
    kernel.answers("descriptors_of", std::vector<int>{9});
    kernel.answers("descriptor_status", file);
    kernel.answers("locks_of", std::vector<LockLine>{line});
  }
};

LockLine place_of(pid_t pid, int number)
{
  LockLine line = held_by(pid, k_wanted);
  line.kind = LockLine::Kind::posix;
  line.start = line.end = kernel::k_queue + number;
  return line;
}

// At our end of the queue a process waits for what we hold: without it there would be no search.
TEST_F(ACrowd, InOneQueueIsWalkedThroughToItsEnd)
{
  std::vector<LockLine> lines{held_by(1, k_wanted), wanted_by(k_first, k_wanted)};
  are_we(2);
  for (int i = 0; i < k_many; ++i) {
    const LockLine place = place_of(k_first + i, i);
    holds(k_first + i, place);
    LockLine wanted = place;
    wanted.pid = i + 1 < k_many ? k_first + i + 1 : k_us;
    wanted.waits = true;
    lines.push_back(place);
    lines.push_back(wanted);
  }
  is_process(k_first + k_many, 0, 3);
  lines.push_back(wanted_by(k_first + k_many, k_ours));
  kernel.answers("all_locks", lines);
  EXPECT_FALSE(look_on_a_small_stack(search));
  EXPECT_THAT(kernel.calls("process_status"), SizeIs(k_many + 2));
}

TEST_F(ACrowd, InOneCircleIsSeenWhole)
{
  for (int look = 0; look < 2; ++look) {
    std::vector<LockLine> lines{held_by(k_us, k_ours), wanted_by(k_us, k_first)};
    are_we(9);
    for (pid_t pid = k_first; pid < k_first + k_many; ++pid) {
      const bool is_last = pid + 1 == k_first + k_many;
      holds(pid, held_by(pid, static_cast<ino_t>(pid)));
      lines.push_back(held_by(pid, static_cast<ino_t>(pid)));
      lines.push_back(wanted_by(pid, is_last ? k_ours : static_cast<ino_t>(pid + 1)));
    }
    kernel.answers("all_locks", lines);
    if (look == 0) {
      EXPECT_FALSE(look_on_a_small_stack(search));
      continue;
    }
    is_process(k_us, 0, 9);
    for (pid_t pid = k_first; pid < k_first + k_many; ++pid) { is_process(pid, 0, 3); }
    const auto parties = look_on_a_small_stack(search);
    ASSERT_TRUE(parties);
    EXPECT_THAT(*parties, SizeIs(k_many + 1));
    EXPECT_EQ(parties->front().pid, k_us);
  }
}

// A lockrun that has adopted an orphan does not wait for it while its command runs.
TEST_F(ACircle, IsNoneThroughAnOrphanThatAnotherLockrunAdopted)
{
  is_process(k_us, 0, 2);
  has_lock(k_us, k_ours);
  is_process(301, 300, 3);
  kernel.answers("descriptors_of", std::vector<int>());
  is_process(300, 0, 1);
  has_lock(300, k_wanted);
  kernel.answers("all_locks", std::vector<LockLine>{held_by(k_us, k_ours), wanted_by(301, k_ours),
                                held_by(300, k_wanted), wanted_by(k_us, k_wanted)});
  kernel.answers("children_of", std::vector<pid_t>{299, 301});
  kernel.answers("read_file", std::string("LOCKRUN_LOCK=x\0LOCKRUN_PID=300", 31) + '\0');
  EXPECT_FALSE(search.look());
  EXPECT_NE(search.pause(), seconds(1)); // which would be a second look at a circle
}

} // namespace
} // namespace lockrun::testing
