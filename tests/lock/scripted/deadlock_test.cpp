#include "lock/deadlock.hpp"
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

namespace lockrun::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using sys::LockLine;
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
  // We and so many others, who wait for a lock that is none of ours; the shell is the parent of all.
  void are_beside_us(int count)
  {
    std::vector<LockLine> lines{held_by(1, k_another), wanted_by(k_us, k_wanted)};
    for (int i = 0; i < count; ++i) {
      lines.push_back(wanted_by(k_us + 1 + i, k_another));
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
  are_beside_us(20);
  EXPECT_FALSE(search.look());
  const auto read = kernel.calls("process_status");
  EXPECT_THAT(read, SizeIs(23));
  EXPECT_EQ(std::set<std::string>(read.begin(), read.end()).size(), read.size());
  EXPECT_THAT(kernel.calls("descriptors_of"), SizeIs(23));
}

// They look once a minute.
TEST_F(ASearch, RestsAsLongAsItsWorkAsksForWhoeverElseWaits)
{
  is_process(k_us, k_shell, 2);
  has_lock(k_us, k_ours);
  is_process(k_shell, 0, 1);
  are_beside_us(300);
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

} // namespace
} // namespace lockrun::testing
