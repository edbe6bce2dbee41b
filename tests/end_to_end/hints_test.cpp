// Every hint in a situation in which it is true, and none where it would not be.

#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

// A program for a dynamic loader that is nowhere, as for another C library: nothing of it is ever run.
std::string elf_program(unsigned char machine)
{
  constexpr std::size_t k_entry = 56;
  std::string bytes(64, '\0');
  const auto put = [&bytes](std::size_t at, std::size_t width, std::uint64_t value) {
    for (std::size_t i = 0; i < width; ++i) { bytes.at(at + i) = static_cast<char>(value >> (8 * i)); }
  };
  bytes.replace(0, 7, "\177ELF\2\1\1");
  put(16, 2, 2); // an executable file
  put(18, 2, machine);
  put(20, 4, 1);
  put(24, 8, 0x400078); // where it begins
  put(32, 8, 64);       // the table of segments
  put(52, 2, 64);
  put(54, 2, k_entry);
  put(56, 2, 2);
  const std::string loader = "/nowhere/ld.so";
  bytes.resize(64 + 2 * k_entry);
  put(64, 4, 3); // PT_INTERP
  put(64 + 8, 8, bytes.size());
  put(64 + 32, 8, loader.size() + 1);
  put(64 + 40, 8, loader.size() + 1);
  put(64 + k_entry, 4, 1); // PT_LOAD
  put(64 + k_entry + 4, 4, 5);
  put(64 + k_entry + 16, 8, 0x400000);
  put(64 + k_entry + 32, 8, 200);
  put(64 + k_entry + 40, 8, 200);
  put(64 + k_entry + 48, 8, 0x1000);
  return bytes + loader + std::string(100, '\0');
}

// The processor that this test runs on, as elf(5) numbers it.
unsigned char our_machine()
{
  return static_cast<unsigned char>(read_file("/proc/self/exe").at(18));
}

class Hints : public ::testing::Test {
protected:
  Hints() { ::chmod(dir.path().c_str(), 0755); }

  std::string of(const Words& arguments, uid_t user = ::geteuid(), const std::string& path = {})
  {
    Start start;
    start.directory = dir.path();
    if (!path.empty()) { start.environment["PATH"] = path; }
    if (user != ::geteuid()) { start.before_exec = {hostile::become_user(user)}; }
    for (const int fd : open) { start.descriptors[9] = fd; }
    return run_lockrun(arguments, start).err;
  }
  std::string running(const std::string& command, const std::string& path = {})
  {
    return of({dir / "lock", command}, ::geteuid(), path);
  }
  void make(const std::string& name, const std::string& content, mode_t mode)
  {
    write_file(dir / name, content, mode);
    ASSERT_EQ(::chmod((dir / name).c_str(), mode), 0);
  }

  const TempDir dir;
  std::vector<int> open; // descriptor 9, if there is one
};

TEST_F(Hints, OfACommandAreAboutWhatIsMissing)
{
  make("our-script", "#!/no/interpreter -x\n", 0755);
  make("crlf", "#!/bin/sh\r\necho\r\n", 0755);
  make("elf", elf_program(our_machine()), 0755);
  make("by_elf", "#!" + (dir / "elf").string() + "\n", 0755);
  EXPECT_THAT(
    running("./our-script"), HasSubstr("hint: '/no/interpreter', the interpreter in the first line of './our-script'"));
  EXPECT_THAT(running("./crlf"), HasSubstr("hint: the first line of './crlf' ends with a carriage return"));
  EXPECT_THAT(running("./elf"), HasSubstr("hint: the dynamic loader that './elf' was built for does not exist here"));
  EXPECT_THAT(running("./by_elf"), HasSubstr("hint: the dynamic loader that '" + (dir / "elf").string()));
  // It is in PATH.
  const std::string found = running("our-script", dir.path().string() + ":/bin:/usr/bin");
  EXPECT_THAT(
    found, HasSubstr("cannot run 'our-script': No such file or directory (ENOENT)\nlockrun: hint: '/no/inter"));
  EXPECT_EQ(running("no-such-command"), "lockrun: cannot run 'no-such-command': not found in PATH\n");
}

TEST_F(Hints, OfACommandOfAnotherProcessorIsAboutThat)
{
  const unsigned char other = our_machine() == 183 ? 62 : 183; // AArch64 and x86-64
  make("elf", elf_program(other), 0755);
  const std::string told = running("./elf");
  if (told.find("ENOEXEC") == told.npos) { GTEST_SKIP() << "programs of that processor can be run here: " << told; }
  EXPECT_EQ(told, "lockrun: cannot run './elf': Exec format error (ENOEXEC)\n"
                  "lockrun: hint: './elf' was built for another processor\n");
  make("script", "echo \"it runs\"\n", 0755); // without "#!"
  EXPECT_EQ(run_lockrun({dir / "lock", dir / "script"}).out, "it runs\n");
}

TEST_F(Hints, OfACommandAreAboutThePermissionThatItLacks)
{
  make("plain", "", 0644);
  make("script", "#!" + (dir / "plain").string() + "\n", 0755);
  EXPECT_THAT(running("./plain"), HasSubstr("hint: './plain' is not executable; see 'chmod +x'"));
  EXPECT_THAT(running("plain", dir.path()), HasSubstr("hint: '" + (dir / "plain").string() + "' is not executable"));
  EXPECT_THAT(running("./script"), HasSubstr("hint: '" + (dir / "plain").string() + "' is not executable"));
  EXPECT_THAT(running("/"), HasSubstr("hint: '/' is a directory"));
  if (::geteuid() != 0) { return; }
  make("roots", "#!/bin/sh\n", 0700);
  std::filesystem::create_directory(dir / "closed");
  ASSERT_EQ(::chmod((dir / "closed").c_str(), 0700), 0);
  write_file(dir / "lock", "", 0666);
  EXPECT_THAT(of({"lock", "./roots"}, k_nobody), HasSubstr("hint: this user may not execute './roots'"));
  EXPECT_THAT(of({"lock", "closed/x"}, k_nobody), HasSubstr("hint: this user may not search the directory 'closed'"));
  EXPECT_THAT(of({"lock", "x"}, k_nobody, dir / "closed"), HasSubstr("hint: this user may not search the directory '"));
}

TEST_F(Hints, OfACommandOnAMountThatDoesNotExecuteAreNotAboutChmod)
{
  std::filesystem::create_directory(dir / "mounted");
  Start start;
  start.before_exec = {[&] {
    const bool mounted = ::unshare(CLONE_NEWNS) == 0 &&
                         ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                         ::mount("tmpfs", (dir / "mounted").c_str(), "tmpfs", MS_NOEXEC, nullptr) == 0;
    const int fd = mounted ? ::open((dir / "mounted/run").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0755) : -1;
    if (fd < 0 || ::write(fd, "#!/bin/sh\n", 10) != 10) { ::_exit(99); }
    ::close(fd);
  }};
  const auto ended = run_lockrun({dir / "lock", dir / "mounted/run"}, start);
  if (ended.status == exited(99)) { GTEST_SKIP() << "may not mount"; }
  EXPECT_EQ(ended.status, exited(126));
  EXPECT_THAT(ended.err, HasSubstr("is on a file system that is mounted 'noexec'"));
  EXPECT_THAT(ended.err, Not(HasSubstr("chmod")));
}

TEST_F(Hints, OfALockFileAreAboutTheDirectoryThatIsInTheWay)
{
  make("file", "", 0644);
  std::filesystem::create_symlink("nowhere/x", dir / "link");
  EXPECT_THAT(of({"a/b/c", "true"}), HasSubstr("hint: the directory 'a' does not exist"));
  EXPECT_THAT(of({"file/x/y", "true"}), HasSubstr("hint: 'file' is not a directory"));
  EXPECT_THAT(of({"link", "true"}), HasSubstr("hint: it is a symbolic link into a directory that does not exist"));
  if (::geteuid() != 0) { return; }
  std::filesystem::create_directory(dir / "closed");
  make("closed/file", "", 0666);
  ASSERT_EQ(::chmod((dir / "closed").c_str(), 0700), 0);
  for (const char* const lock : {"closed/file", "closed/new", "closed/none/new"}) {
    const std::string told = of({lock, "true"}, k_nobody);
    EXPECT_THAT(told, HasSubstr("hint: this user may not search the directory 'closed'"));
    EXPECT_THAT(told, Not(HasSubstr("create")));
  }
}

TEST_F(Hints, OfADescriptorAreNotToOpenWhatIsOpen)
{
  make("file", "", 0644);
  EXPECT_THAT(of({"9"}), HasSubstr("hint: open it in the shell first, as in: exec 9>"));
  EXPECT_THAT(of({"--fcntl", "9"}), HasSubstr("hint: open it in the shell first"));
  const int named = ::open((dir / "file").c_str(), O_PATH | O_CLOEXEC); // as NFS does with one for reading
  open = {named};
  const std::string told = of({"9"});
  EXPECT_THAT(told, HasSubstr("hint: it is open, but not in the way that this lock needs"));
  EXPECT_THAT(told, Not(HasSubstr("first")));
  ::close(named);
}

TEST_F(Hints, OfANumberThatIsAFileAreGivenWhereTheDescriptorIsOpen)
{
  make("file", "", 0644);
  const std::string hint = "lockrun: hint: '9' is the file './9' here; for the open descriptor 9 use '--fd 9'\n";
  EXPECT_EQ(of({"9", "true"}), "");
  const int fd = ::open((dir / "file").c_str(), O_RDONLY | O_CLOEXEC);
  open = {fd};
  EXPECT_EQ(of({"9", "true"}), hint);
  EXPECT_EQ(of({"9", "-c", "true"}), hint);
  EXPECT_EQ(of({"-q", "9", "true"}), "");
  EXPECT_EQ(of({"./9", "true"}), "");
  EXPECT_EQ(of({"8", "true"}), "");
  EXPECT_EQ(of({"1", "true"}), ""); // always open
  EXPECT_EQ(of({"--fd", "9", "true"}), "");
  ::close(fd);
}

} // namespace
} // namespace lockrun::testing
