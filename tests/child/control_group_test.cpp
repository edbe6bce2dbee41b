#include "child/control_group.hpp"

#include "child/terminator.hpp"
#include "support/control_group.hpp"
#include "support/eventually.hpp"
#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using child::ControlGroup;
using Names = std::set<std::string>;

bool join(const std::string& group)
{
  const int fd = ::open((group + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC);
  const bool joined = fd >= 0 && ::write(fd, "0", 1) == 1;
  ::close(fd);
  return joined;
}

// Each test body runs in a process in a control group of its own. What it returns that is not 0 says where it failed.
class ControlGroups : public ::testing::Test {
protected:
  void SetUp() override
  {
    group = make_control_group();
    if (group.empty()) { GTEST_SKIP() << "no control group can be made"; }
    if (!std::filesystem::exists(group + "/cgroup.kill")) { GTEST_SKIP() << "Linux before 5.14"; }
  }
  void TearDown() override
  {
    for (const std::string& name : made()) { EXPECT_EQ(::rmdir((group + "/" + name).c_str()), 0) << name; }
    if (!group.empty()) {
      EXPECT_TRUE(eventually([&] { return ::rmdir(group.c_str()) == 0; })) << group;
    }
  }
  void inside(const std::function<int()>& body) const
  {
    Forked process([&] { return join(group) ? body() : 100; });
    EXPECT_EQ(process.wait(), exited(0));
  }
  Names made() const
  {
    Names found;
    if (group.empty()) { return found; }
    for (const auto& entry : std::filesystem::directory_iterator(group)) {
      if (entry.is_directory()) { found.insert(entry.path().filename()); }
    }
    return found;
  }
  std::string group;
};

TEST_F(ControlGroups, AreNamedAfterUsAndRemoved)
{
  inside([&] {
    const auto made_group = ControlGroup::make();
    if (!made_group) { return 1; }
    if (made() != Names{"lockrun-tree-" + std::to_string(::getpid())}) { return 2; }
    made_group->remove();
    return made().empty() ? 0 : 3;
  });
}

TEST_F(ControlGroups, AreKilledAsAWhole)
{
  inside([&] {
    if (!sys::become_subreaper()) { return 6; } // as a guard: a member that has not been reaped keeps the group busy
    const auto made_group = ControlGroup::make();
    if (!made_group) { return 1; }
    const std::string path = group + "/" + *made().begin();
    Pipe end;
    Forked member([&] { // in which no process stays for long
      if (!join(path)) { return 1; }
      end.close_write();
      ::pollfd source{end.read_end, POLLIN, 0};
      while (::poll(&source, 1, 0) == 0) {
        if (::fork() > 0) { ::_exit(0); }
      }
      return 0;
    });
    if (member.wait() != exited(0)) { return 2; }
    if (read_file(path + "/cgroup.procs").empty()) { return 5; }
    made_group->kill();
    if (!eventually([&] { return !child::reap_all() && read_file(path + "/cgroup.procs").empty(); })) { return 3; }
    made_group->remove();
    return made().empty() ? 0 : 4;
  });
}

TEST_F(ControlGroups, GiveTheirMembersBackWhenTheyAreRemoved)
{
  inside([&] {
    const auto made_group = ControlGroup::make();
    if (!made_group) { return 1; }
    const std::string path = group + "/" + *made().begin();
    Forked member([&] {
      if (!join(path)) { return 1; }
      ::pause();
      return 0;
    });
    if (!eventually([&] { return !read_file(path + "/cgroup.procs").empty(); })) { return 2; }
    made_group->remove();
    if (!made().empty()) { return 3; }
    return read_file(group + "/cgroup.procs").find(std::to_string(member.pid())) != std::string::npos ? 0 : 4;
  });
}

// Those that nobody has locked; and not the files beside them, or what others have made.
TEST_F(ControlGroups, RemoveWhatOthersHaveLeft)
{
  const std::string leftover = group + "/lockrun-tree-7";
  ASSERT_TRUE(std::filesystem::create_directories(leftover + "/lockrun-tree-8"));
  ASSERT_TRUE(std::filesystem::create_directory(group + "/other"));
  inside([&] {
    const auto ours = ControlGroup::make();
    if (!ours || made() != Names{"other", "lockrun-tree-" + std::to_string(::getpid())}) { return 1; }
    Forked another([&] {
      const auto theirs = ControlGroup::make();
      if (!theirs || made().size() != 3) { return 1; }
      theirs->remove();
      return made().size() == 2 ? 0 : 2;
    });
    if (another.wait() != exited(0)) { return 2; }
    ours->remove();
    return 0;
  });
}

TEST_F(ControlGroups, TakeAnotherNameIfTheirsIsTaken)
{
  inside([&] {
    const std::string name = "lockrun-tree-" + std::to_string(::getpid());
    const auto first = ControlGroup::make();
    const auto second = ControlGroup::make();
    if (!first || !second || made() != Names{name, name + "-"}) { return 1; }
    first->remove();
    second->remove();
    return made().empty() ? 0 : 2;
  });
}

struct Pair {
  const char* name;
  const char* theirs;
  const char* ours;
  bool is_in;
};
constexpr Pair k_pairs[] = {
  {"below_ours", "4:memory:/a\n0::/b/lockrun-tree-5\n", "4:memory:/a\n0::/b\n", true},
  {"below_the_root", "0::/lockrun-tree-5\n", "0::/\n", true},
  {"deeper", "0::/b/lockrun-tree-5/lockrun-tree-6\n", "0::/b\n", true},
  {"ours_itself", "0::/b\n", "0::/b\n", false},
  {"another_below_ours", "0::/b/c\n", "0::/b\n", false},
  {"below_another", "0::/bb/lockrun-tree-5\n", "0::/b\n", false},
  {"beside", "0::/lockrun-tree-5\n", "0::/b\n", false},
  {"another_elsewhere", "4:memory:/c\n0::/b/lockrun-tree-5\n", "4:memory:/a\n0::/b\n", false},
  {"nothing", "", "", false},
};
class IsInMadeGroup : public ::testing::TestWithParam<Pair> {};
TEST_P(IsInMadeGroup, AsTheTableSays)
{
  EXPECT_EQ(child::is_in_made_group(GetParam().theirs, GetParam().ours), GetParam().is_in);
}
INSTANTIATE_TEST_SUITE_P(
  Table, IsInMadeGroup, ::testing::ValuesIn(k_pairs), [](const auto& row) { return row.param.name; });

} // namespace
} // namespace lockrun::testing
