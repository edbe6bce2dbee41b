#include "sys/proc.hpp"

#include "support/eventually.hpp"
#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "sys/file.hpp"

#include <algorithm>
#include <cerrno>
#include <set>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

// capabilities(7): without it, a process that is not dumpable cannot be looked into, not even by its own user.
bool drop_ptrace_capability()
{
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  if (::syscall(SYS_capget, &header, data) != 0) { return false; }
  for (auto* const set : {&data[0].effective, &data[0].permitted}) { *set &= ~(1U << CAP_SYS_PTRACE); }
  return ::syscall(SYS_capset, &header, data) == 0;
}

class Descriptors : public ::testing::Test {
protected:
  const TempDir dir;
  const sys::Descriptor file = sys::open((dir / "file").c_str(), O_RDWR | O_CREAT, 0600).value();
  const sys::FileIdentity identity = sys::fstat(file)->identity;
};

TEST_F(Descriptors, OfAProcessThatHasTheFileOpen)
{
  EXPECT_EQ(sys::descriptors_of(::getpid(), identity).value(), std::vector<int>{file.get()});
}

TEST_F(Descriptors, ThatCanBeListedButNotLookedAtAreNotSaidToBeOtherFiles)
{
  Pipe ready;
  Forked hidden([&] {
    ::prctl(PR_SET_DUMPABLE, 0);
    ready.close_write();
    ::pause();
    return 0;
  });
  ready.close_write();
  char byte = 0;
  ASSERT_EQ(::read(ready.read_end, &byte, 1), 0);
  Forked looking([&] {
    if (!drop_ptrace_capability()) { return 2; }
    const auto found = sys::descriptors_of(hidden.pid(), identity);
    return !found && found.error().code == EACCES ? 0 : 1;
  });
  EXPECT_EQ(looking.wait(), exited(0));
}

// More locks than the kernel shows in one piece, all the time, and others that come and go before them in its list.
class AllLocks : public Descriptors {
protected:
  static constexpr int k_locks = 300;

  AllLocks()
  {
    for (int i = 0; i < k_locks; ++i) {
      struct ::flock range {};
      range.l_type = F_WRLCK;
      range.l_start = 2 * i;
      range.l_len = 1;
      EXPECT_EQ(::fcntl(file.get(), F_OFD_SETLK, &range), 0);
    }
    for (int i = 0; i < 2; ++i) {
      others.emplace_back([&] {
        const int fd = ::open((dir / "other").c_str(), O_RDWR | O_CREAT, 0600);
        for (;;) {
          ::flock(fd, LOCK_SH);
          ::flock(fd, LOCK_UN);
        }
        return 0;
      });
    }
  }

  bool are_complete(const std::vector<sys::LockLine>& lines) const
  {
    std::set<std::int64_t> starts;
    int count = 0;
    for (const auto& line : lines) {
      if (line.inode != identity.inode || line.kind != sys::LockLine::Kind::ofd) { continue; }
      starts.insert(line.start);
      ++count;
    }
    return count == k_locks && starts.size() == k_locks;
  }

  std::vector<Forked> others;
};

TEST_F(AllLocks, AreCompleteWhenChecked)
{
  int complete = 0;
  ASSERT_TRUE(eventually([&] {
    const auto list = sys::all_locks_checked().value();
    if (list.is_complete) {
      EXPECT_TRUE(are_complete(list.lines));
      ++complete;
    }
    return complete == 3 || HasFailure();
  }));
}

// The twin: unchecked they are not.
TEST_F(AllLocks, AreNotAlwaysCompleteAtAGlance)
{
  EXPECT_TRUE(eventually([&] { return !are_complete(sys::all_locks().value()); }));
}

TEST(PendingSignals, AreThoseThatNobodyHasTaken)
{
  const Notice ready;
  const Notice end;
  Forked process([&] {
    (void)sys::block_signals({SIGTERM, SIGUSR1});
    ready.give();
    end.wait();
    return 0;
  });
  ready.wait();
  EXPECT_TRUE(sys::pending_signals(process.pid())->is_empty());
  process.signal(SIGTERM);
  const auto pending = sys::pending_signals(process.pid());
  ASSERT_TRUE(pending);
  EXPECT_TRUE(pending->contains(SIGTERM));
  EXPECT_FALSE(pending->contains(SIGUSR1));
  end.give();
  EXPECT_EQ(process.wait(), exited(0));
  EXPECT_EQ(sys::pending_signals(-1).error().code, ESRCH);
}

TEST(ChildrenOf, AreInTheOrderInWhichTheyCame)
{
  const Notice end;
  const auto wait = [&] {
    end.wait();
    return 0;
  };
  const Forked first(wait);
  const Forked second(wait);
  const auto children = sys::children_of(::getpid());
  ASSERT_TRUE(children);
  const auto at = std::find(children->begin(), children->end(), first.pid());
  ASSERT_NE(at, children->end());
  EXPECT_NE(std::find(at, children->end(), second.pid()), children->end());
  EXPECT_FALSE(sys::children_of(0));
}

TEST(ProcessIds, AreReadWhateverIsBetweenThem)
{
  const TempDir dir;
  EXPECT_EQ(sys::process_ids_in(write_file(dir / "lines", "12\n345\n").c_str()), (std::vector<pid_t>{12, 345}));
  EXPECT_EQ(sys::process_ids_in(write_file(dir / "blanks", "12 345 ").c_str()), (std::vector<pid_t>{12, 345}));
  EXPECT_EQ(sys::process_ids_in(write_file(dir / "nothing", "").c_str()), std::vector<pid_t>());
  EXPECT_EQ(sys::process_ids_in((dir / "none").c_str()).error().code, ENOENT);
}

TEST(Entries, AreThoseThatBeginSo)
{
  const TempDir dir;
  std::vector<std::string> expected;
  for (int i = 0; i < 100; ++i) { // more than are read at once
    expected.push_back("made-" + std::to_string(i));
    std::filesystem::create_directory(dir / expected.back());
    write_file(dir / ("other-" + std::to_string(i)), "");
  }
  auto found = sys::entries_of(dir.path().c_str(), "made-");
  std::sort(found.begin(), found.end());
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(found, expected);
  EXPECT_TRUE(sys::entries_of((dir / "none").c_str(), "").empty());
}

TEST(CompareDescriptions, TellsACopyFromAnotherOpenFile)
{
  const auto file = sys::open("/dev/null", O_RDONLY);
  const auto copy = sys::duplicate(file->get(), 3);
  const auto other = sys::open("/dev/null", O_RDONLY);
  const pid_t us = ::getpid();
  const auto same = sys::compare_descriptions(us, file->get(), us, copy->get());
  if (!same) { GTEST_SKIP() << "the kernel does not tell"; }
  EXPECT_EQ(*same, sys::Description::shared);
  EXPECT_EQ(sys::compare_descriptions(us, file->get(), us, other->get()), sys::Description::separate);
  EXPECT_FALSE(sys::compare_descriptions(us, file->get(), us, -1));
}

} // namespace
} // namespace lockrun::testing
