#include "sys/file.hpp"

#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <cerrno>

#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

int flags_of(const sys::Descriptor& fd)
{
  return ::fcntl(fd.get(), F_GETFD);
}

bool is_open(int fd)
{
  return ::fcntl(fd, F_GETFD) >= 0;
}

TEST(Descriptor, ClosesWhatItOwnsAndKeepsErrno)
{
  const Pipe pipe;
  const int number = ::dup(pipe.read_end);
  {
    const sys::Descriptor owner(number);
    errno = ENOLCK;
  }
  EXPECT_EQ(errno, ENOLCK);
  EXPECT_FALSE(is_open(number));
}

TEST(Descriptor, MovesAndSurvivesBeingMovedToItself)
{
  const Pipe pipe;
  sys::Descriptor first(::dup(pipe.read_end));
  const int number = first.get();
  sys::Descriptor second(std::move(first));
  EXPECT_FALSE(first.is_open()); // NOLINT(bugprone-use-after-move): that is the question
  sys::Descriptor& same = second;
  second = std::move(same);
  EXPECT_EQ(second.get(), number);
  EXPECT_TRUE(is_open(number));
  second = sys::Descriptor();
  EXPECT_FALSE(is_open(number));
}

TEST(Open, IsCloseOnExecAndTakesNoTerminal)
{
  const TempDir dir;
  const auto fd = sys::open((dir / "x").c_str(), O_RDWR | O_CREAT, 0640);
  ASSERT_TRUE(fd);
  EXPECT_EQ(flags_of(*fd), FD_CLOEXEC);
  struct ::stat raw {};
  ASSERT_EQ(::fstat(fd->get(), &raw), 0);
  EXPECT_EQ(raw.st_mode & 07777U, 0640U);
}

TEST(FileSystemType, IsTheKernelsNumber)
{
  EXPECT_EQ(sys::file_system_type(*sys::open("/proc", O_RDONLY)), 0x9fa0U);
  EXPECT_EQ(sys::file_system_type({}).error().code, EBADF);
}

struct OpenRow {
  const char* name;
  const char* path; // in a directory with: file, fifo, link (to itself), locked (mode 0)
  int flags;
  int code;
};
constexpr OpenRow k_open_rows[] = {
  {"MissingFile", "none", O_RDONLY, ENOENT},
  {"MissingDirectory", "none/x", O_RDONLY | O_CREAT, ENOENT},
  {"FileAsDirectory", "file/x", O_RDONLY, ENOTDIR},
  {"DirectoryForWriting", ".", O_RDWR, EISDIR},
  {"LoopOfLinks", "link", O_RDONLY, ELOOP},
  {"LinkThatMayNotBe", "link", O_RDONLY | O_NOFOLLOW, ELOOP},
  {"AlreadyThere", "file", O_RDWR | O_CREAT | O_EXCL, EEXIST},
  {"FifoWithoutReader", "fifo", O_WRONLY | O_NONBLOCK, ENXIO},
};
class OpenFails : public ::testing::TestWithParam<OpenRow> {};

TEST_P(OpenFails, WithTheKernelsErrno)
{
  const TempDir dir;
  write_file(dir / "file", "");
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  std::filesystem::create_symlink("link", dir / "link");
  const auto fd = sys::open((dir / GetParam().path).c_str(), GetParam().flags, 0666);
  ASSERT_FALSE(fd);
  EXPECT_EQ(fd.error().code, GetParam().code);
  EXPECT_STREQ(fd.error().call, "open");
}
INSTANTIATE_TEST_SUITE_P(
  Table, OpenFails, ::testing::ValuesIn(k_open_rows), [](const auto& row) { return row.param.name; });

TEST(Open, FailsForAnotherUsersPrivateFile)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  const TempDir dir;
  const auto path = write_file(dir / "private", "", 0600);
  Forked nobody([&] {
    hostile::become_user(k_nobody)();
    const auto fd = sys::open(path.c_str(), O_RDONLY);
    return fd ? 0 : fd.error().code;
  });
  EXPECT_EQ(nobody.wait(), exited(EACCES));
}

TEST(Open, DoesNotTruncate)
{
  const TempDir dir;
  const auto path = write_file(dir / "data", "kept");
  ASSERT_TRUE(sys::open(path.c_str(), O_RDWR | O_CREAT, 0666));
  EXPECT_EQ(read_file(path), "kept");
}

TEST(Status, TellsTypeIdentityAndTheRest)
{
  const TempDir dir;
  const auto path = write_file(dir / "file", "four", 0604);
  ASSERT_EQ(::link(path.c_str(), (dir / "second").c_str()), 0);
  const auto fd = sys::open(path.c_str(), O_RDONLY);
  ASSERT_TRUE(fd);
  const auto by_descriptor = sys::fstat(*fd);
  const auto by_name = sys::stat((dir / "second").c_str());
  ASSERT_TRUE(by_descriptor && by_name);
  EXPECT_EQ(by_descriptor->identity, by_name->identity);
  EXPECT_EQ(by_name->type, sys::FileType::regular);
  EXPECT_EQ(by_name->permissions, 0604U);
  EXPECT_EQ(by_name->owner, ::geteuid());
  EXPECT_EQ(by_name->links, 2U);
  EXPECT_EQ(by_name->size, 4);
}

TEST(Status, TellsDirectoriesFromOtherThings)
{
  const TempDir dir;
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(sys::stat(dir.path().c_str())->type, sys::FileType::directory);
  EXPECT_EQ(sys::stat((dir / "fifo").c_str())->type, sys::FileType::other);
  EXPECT_EQ(sys::stat("/dev/null")->type, sys::FileType::device);
}

TEST(Status, FailsWithTheKernelsErrno)
{
  EXPECT_EQ(sys::fstat(sys::Descriptor()).error().code, EBADF);
  EXPECT_EQ(sys::stat("/none").error().code, ENOENT);
}

TEST(Link, NamesAFileThatHasNone)
{
  const TempDir dir;
  const auto unnamed = sys::open(dir.path().c_str(), O_TMPFILE | O_WRONLY, 0600);
  if (!unnamed) { GTEST_SKIP() << "no O_TMPFILE here"; }
  ASSERT_TRUE(sys::change_mode(*unnamed, 0642));
  ASSERT_TRUE(sys::link(*unnamed, (dir / "file").c_str()));
  EXPECT_EQ(sys::stat((dir / "file").c_str())->permissions, 0642U);
  EXPECT_EQ(sys::link(*unnamed, (dir / "file").c_str()).error().code, EEXIST);
}

TEST(ChangeMode, WorksOnAFileThatIsOnlyNamed)
{
  const TempDir dir;
  write_file(dir / "file", "", 0);
  const auto named = sys::open((dir / "file").c_str(), O_PATH);
  ASSERT_TRUE(sys::change_mode(*named, 0640));
  EXPECT_EQ(sys::stat((dir / "file").c_str())->permissions, 0640U);
}

TEST(LinkTarget, IsWhereItLeads)
{
  const TempDir dir;
  std::filesystem::create_symlink("nowhere", dir / "link");
  const auto link = sys::open((dir / "link").c_str(), O_PATH | O_NOFOLLOW);
  ASSERT_TRUE(link);
  EXPECT_EQ(*sys::link_target(*link), "nowhere");
}

TEST(DeviceClass, IsWhatSysfsSays)
{
  const auto null = sys::stat("/dev/null");
  EXPECT_TRUE(null->is_character_device);
  const auto name = sys::device_class(null->special);
  if (!name) { GTEST_SKIP() << "no sysfs here"; }
  EXPECT_EQ(*name, "mem");
}

TEST(Duplicate, IsHighEnoughAndCloseOnExec)
{
  const Pipe pipe;
  const sys::Descriptor original(::dup(pipe.read_end));
  const auto copy = sys::duplicate(original.get(), 50);
  ASSERT_TRUE(copy);
  EXPECT_GE(copy->get(), 50);
  EXPECT_EQ(flags_of(*copy), FD_CLOEXEC);
  ASSERT_TRUE(sys::let_inherit(*copy));
  EXPECT_EQ(flags_of(*copy), 0);
}

TEST(Duplicate, TellsWhenThereIsNoRoom)
{
  Forked limited([] {
    hostile::limit(RLIMIT_NOFILE, 8)();
    const sys::Descriptor original(::dup(0));
    if (sys::duplicate(original.get(), 10).error().code != EINVAL) { return 1; }
    while (::dup(0) >= 0) {}
    return sys::duplicate(original.get(), 0).error().code == EMFILE ? 0 : 2;
  });
  EXPECT_EQ(limited.wait(), exited(0));
}

TEST(Duplicate, FailsForWhatIsNotOpen)
{
  EXPECT_EQ(sys::duplicate(-1, 0).error().code, EBADF);
  EXPECT_EQ(sys::duplicate(900, 0).error().code, EBADF);
}

TEST(LetInherit, FailsOnWhatIsNotOpen)
{
  EXPECT_EQ(sys::let_inherit(sys::Descriptor()).error().code, EBADF);
}

TEST(Write, TellsHowMuchWentOut)
{
  const TempDir dir;
  const auto path = dir / "x";
  const auto fd = sys::open(path.c_str(), O_RDWR | O_CREAT, 0666);
  EXPECT_EQ(sys::write(*fd, "hello"), 5U);
  EXPECT_EQ(read_file(path), "hello");
  EXPECT_EQ(sys::write(*sys::open(path.c_str(), O_RDONLY), "x").error().code, EBADF);
}

TEST(Rmdir, RemovesADirectoryThatIsEmpty)
{
  const TempDir dir;
  const std::string inner = dir / "a";
  std::filesystem::create_directories(inner + "/b");
  EXPECT_EQ(sys::rmdir(inner.c_str()).error().code, ENOTEMPTY);
  EXPECT_TRUE(sys::rmdir((inner + "/b").c_str()));
  EXPECT_TRUE(sys::rmdir(inner.c_str()));
  EXPECT_FALSE(std::filesystem::exists(inner));
  EXPECT_EQ(sys::rmdir(inner.c_str()).error().code, ENOENT);
}

TEST(StandardDescriptors, AreSeenToBeClosed)
{
  for (unsigned closed = 0; closed < 8; ++closed) {
    Forked process([closed] {
      for (int fd = 0; fd < 3; ++fd) {
        if ((closed >> fd & 1U) != 0) { ::close(fd); }
      }
      return sys::closed_standard_descriptors() == closed ? 0 : 1;
    });
    EXPECT_EQ(process.wait(), exited(0)) << closed;
  }
}

} // namespace
} // namespace lockrun::testing
