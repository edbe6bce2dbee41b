// What cannot be done gets one clear line, a hint where there is one, and no run of the command.

#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

const std::string k_run = "<run>"; // stands for a command that leaves a file behind

struct Row {
  const char* name;
  Words arguments; // in a directory with: file, fifo, loop (a link to itself), private (mode 0600)
  int status;
  std::string line; // after "lockrun: "
  std::string hint = {};
  uid_t user = 0;
};

void PrintTo(const Row& row, std::ostream* out)
{
  for (const std::string& word : row.arguments) { *out << word << ' '; }
}

const std::string k_long(300, 'x');
constexpr const char* k_try = "try 'lockrun --help'";

const Row k_rows[] = {
  // options
  {"UnknownOption", {"--bogus", "lock", k_run}, 64, "unknown option '--bogus'", k_try},
  {"UnknownLetter", {"-Z", "lock", k_run}, 64, "unknown option '-Z'", k_try},
  {"UnknownLetterInABundle", {"-nZ", "lock", k_run}, 64, "unknown option '-Z'", k_try},
  {"OptionWithoutValue", {"-w"}, 64, "'-w' needs a value", k_try},
  {"LongOptionWithoutValue", {"--conflict-exit-code"}, 64, "'--conflict-exit-code' needs a value", k_try},
  {"ValueThatIsNotWanted", {"--shared=yes", "lock", k_run}, 64, "'--shared'", k_try},
  {"AmbiguousPrefix", {"--no", "lock", k_run}, 64, "'--no'", k_try},
  {"StatusOutOfRange", {"-E", "256", "lock", k_run}, 64, "bad value '256' for '-E'", k_try},
  {"StatusBelowRange", {"-E", "-1", "lock", k_run}, 64, "bad value '-1' for '-E'", k_try},
  {"StatusFarOutOfRange", {"-E", "99999999999999999999", "lock", k_run}, 64, "for '-E'", k_try},
  {"StatusWithLetters", {"-E", "3x", "lock", k_run}, 64, "bad value '3x' for '-E'", k_try},
  {"StatusThatIsEmpty", {"-E", "", "lock", k_run}, 64, "bad value '' for '-E'", k_try},
  {"DurationWithLetters", {"-w", "5q", "lock", k_run}, 64, "bad value '5q' for '-w'", k_try},
  {"DurationThatIsNegative", {"-w", "-5", "lock", k_run}, 64, "bad value '-5' for '-w'", k_try},
  {"DurationThatIsEmpty", {"-w", "", "lock", k_run}, 64, "bad value '' for '-w'", k_try},
  {"DurationWithoutNumber", {"-w", "s", "lock", k_run}, 64, "bad value 's' for '-w'", k_try},
  {"DurationOfAnotherKind", {"-w", "inf", "lock", k_run}, 64, "bad value 'inf' for '-w'", k_try},
  {"DurationOutOfRange", {"-w", "99999999999999999999d", "lock", k_run}, 64, "for '-w'", k_try},
  {"ModeThatIsNotOctal", {"--mode", "0689", "lock", k_run}, 64, "bad value '0689' for '--mode'", k_try},
  {"ModeOutOfRange", {"--mode", "17777", "lock", k_run}, 64, "bad value '17777' for '--mode'", k_try},
  {"ApiThatIsNone", {"--api", "posix", "lock", k_run}, 64, "bad value 'posix' for '--api'", k_try},
  {"StartThatIsNegative", {"--start", "-1", "lock", k_run}, 64, "bad value '-1' for '--start'", k_try},
  {"LengthWithLetters", {"--length", "1k", "lock", k_run}, 64, "bad value '1k' for '--length'", k_try},
  {"RangeThatIsTooLong", {"--start=9223372036854775807", "--length=2", "lock", k_run}, 64, "--", k_try},
  // operands
  {"Nothing", {}, 64, "missing LOCK", k_try},
  {"MissingCommand", {"lock"}, 64, "missing command behind 'lock'", k_try},
  {"MissingCommandAfterDashes", {"lock", "--"}, 64, "missing command", k_try},
  {"EmptyCommand", {"lock", ""}, 64, "the command's name is empty", k_try},
  {"CommandStringMissing", {"lock", "-c"}, 64, "'-c' needs a value", k_try},
  {"EmptyLock", {"", k_run}, 64, "LOCK is empty", k_try},
  {"UnlockWithAPath", {"-u", "lock"}, 64, "'-u' and 'lock' contradict each other", k_try},
  {"DescriptorOutOfRange", {"99999999999999999999"}, 64, "99999999999999999999", k_try},
  {"DescriptorThatIsNoNumber", {"--fd", "x", k_run}, 64, "bad value 'x' for '--fd'", k_try},
  {"DescriptorThatIsNotOpen", {"8"}, 65, "cannot lock descriptor 8: Bad file descriptor (EBADF)", "exec 8>"},
  // files
  {"MissingDirectory", {"none/x", k_run}, 73, "cannot open 'none/x': No such file or directory (ENOENT)",
    "the directory 'none' does not exist; lockrun creates files, not directories"},
  {"MissingDirectoryAsTheLock", {"none/", k_run}, 73, "cannot open 'none/': No such file or directory (ENOENT)",
    "lockrun creates files, not directories"},
  {"MissingDirectoryThatMayNotBeMade", {"--no-create", "none/", k_run}, 66, "cannot open 'none/': No such file",
    "with --no-create the file must exist"},
  {"FileInPlaceOfADirectory", {"file/x", k_run}, 73, "cannot open 'file/x': Not a directory (ENOTDIR)",
    "'file' is not a directory"},
  {"LongName", {k_long, k_run}, 73, "File name too long (ENAMETOOLONG)", "at most 255 bytes"},
  {"NewlineInThePath", {"none/a\nlockrun: all is well", k_run}, 73, R"(cannot open 'none/a\nlockrun: all is well')",
    "does not exist"},
  {"EscapeCodesInThePath", {"none/\033[2J\a\x9b", k_run}, 73, R"(cannot open 'none/\x1b[2J\x07\x9b')",
    "does not exist"},
  {"QuoteInThePath", {"none/it's", k_run}, 73, R"(cannot open 'none/it)", "does not exist"},
  {"LoopOfLinks", {"loop", k_run}, 77, "cannot open 'loop': Too many levels of symbolic links (ELOOP)"},
  {"LinkThatMayNotBe", {"--no-follow", "link", k_run}, 77, "cannot open 'link'", "--no-follow was given"},
  {"Fifo", {"fifo", k_run}, 77, "cannot lock 'fifo': it is neither a regular file, a directory nor a device"},
  {"MissingFileThatMayNotBeMade", {"--no-create", "new", k_run}, 66, "cannot open 'new': No such file",
    "with --no-create the file must exist"},
  {"AnothersFile", {"private", k_run}, 77, "cannot open 'private': Permission denied (EACCES)", "this user may not",
    k_nobody},
  {"AnothersDirectory", {"new", k_run}, 77, "cannot open 'new': Permission denied (EACCES)",
    "this user may not create files in '.'", k_nobody},
  {"ReadOnlyFileForAnOfdLock", {"--fcntl", "readonly", k_run}, 77, "cannot open 'readonly': Permission denied (EACCES)",
    "needs a file that this user may write to", k_nobody},
  {"DirectoryForAnOfdLock", {"--fcntl", ".", k_run}, 77, "cannot open '.' for writing: Is a directory (EISDIR)",
    "only --api flock can lock a directory"},
  // commands
  {"NoSuchCommand", {"lock", "no-such-command-anywhere"}, 127,
    "cannot run 'no-such-command-anywhere': not found in PATH"},
  {"CommandThatIsNotExecutable", {"lock", "./file"}, 126, "cannot run './file': Permission denied (EACCES)",
    "chmod +x"},
  {"CommandWithoutInterpreter", {"lock", "./broken"}, 127, "cannot run './broken': No such file or directory (ENOENT)",
    "interpreter"},
  {"CommandWithEscapeCodes", {"lock", "./\033]0;x\a"}, 127, R"(cannot run './\x1b]0;x\x07')"},
};

class BadInput : public ::testing::TestWithParam<Row> {
protected:
  BadInput()
  {
    write_file(dir / "file", "");
    write_file(dir / "private", "", 0600);
    write_file(dir / "readonly", "", 0444);
    write_file(dir / "broken", "#!/no/interpreter\n", 0755);
    ::mkfifo((dir / "fifo").c_str(), 0666);
    std::filesystem::create_symlink("loop", dir / "loop");
    std::filesystem::create_symlink("file", dir / "link");
  }
  const TempDir dir;
};

TEST_P(BadInput, GetsOneClearLineAndItsStatusAndNoRun)
{
  const Row& row = GetParam();
  Start start;
  start.directory = dir.path();
  if (row.user != 0) {
    if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
    start.before_exec = {hostile::become_user(row.user)};
  }
  Words arguments;
  for (const std::string& word : row.arguments) {
    if (word == k_run) {
      arguments.insert(arguments.end(), {"touch", "the-command-ran"});
    } else {
      arguments.push_back(word);
    }
  }

  const auto ended = run_lockrun(arguments, start);

  EXPECT_EQ(ended.status, exited(row.status));
  EXPECT_EQ(ended.out, "");
  EXPECT_FALSE(std::filesystem::exists(dir / "the-command-ran"));
  std::istringstream lines(ended.err);
  std::string line;
  ASSERT_TRUE(std::getline(lines, line)) << "nothing was said";
  EXPECT_THAT(line, StartsWith("lockrun: "));
  EXPECT_THAT(line, HasSubstr(row.line));
  // Behind it only hints and where help is.
  std::string rest;
  while (std::getline(lines, line)) {
    EXPECT_THAT(line, AnyOf(StartsWith("lockrun: hint: "), "lockrun: try 'lockrun --help'"));
    rest += line + "\n";
  }
  EXPECT_THAT(rest, HasSubstr(row.hint));
  if (row.hint.empty()) { EXPECT_EQ(rest, ""); }
  const bool is_printable = std::all_of(ended.err.begin(), ended.err.end(),
    [](char letter) { return letter == '\n' || (static_cast<unsigned char>(letter) >= 0x20 && letter != 0x7f); });
  EXPECT_TRUE(is_printable) << "a terminal would obey";
  EXPECT_THAT(ended.err, ::testing::EndsWith("\n"));
}

INSTANTIATE_TEST_SUITE_P(Table, BadInput, ::testing::ValuesIn(k_rows), [](const auto& row) { return row.param.name; });

TEST(BadInputOnDisk, AReadOnlyFileSystemIsNamedAsOne)
{
  const TempDir dir;
  const auto place = dir / "place";
  std::filesystem::create_directory(place);
  Start start;
  start.before_exec = {[&] {
    const bool mounted = ::unshare(CLONE_NEWNS) == 0 &&
                         ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                         ::mount("tmpfs", place.c_str(), "tmpfs", MS_RDONLY, nullptr) == 0;
    if (!mounted) { ::_exit(99); }
  }};
  const auto ended = run_lockrun({place / "lock", "touch", dir / "the-command-ran"}, start);
  if (ended.status == exited(99)) { GTEST_SKIP() << "may not mount"; }
  EXPECT_EQ(ended.status, exited(73));
  EXPECT_THAT(ended.err, HasSubstr("Read-only file system (EROFS)\nlockrun: hint: the file system is read-only"));
  EXPECT_FALSE(std::filesystem::exists(dir / "the-command-ran"));
  EXPECT_EQ(run_lockrun({place, "echo", "ran"}, start).out, "ran\n"); // the directory itself can be locked
}

TEST(BadInputWithQuiet, IsStillAFailureThatIsTold)
{
  const auto ended = run_lockrun({"-q", "/no/such/directory/x", "true"});
  EXPECT_EQ(ended.status, exited(73));
  EXPECT_THAT(ended.err, StartsWith("lockrun: cannot open '/no/such/directory/x': No such file or directory (ENOENT)"));
}

TEST(BadInputAnywhere, IsNotTakenForAnOptionBehindTheLock)
{
  const TempDir dir;
  EXPECT_EQ(run_lockrun({dir / "lock", "echo", "--bogus", "-w"}).out, "--bogus -w\n");
  EXPECT_EQ(run_lockrun({dir / "lock", "--", "echo", "--", "-n"}).out, "-- -n\n");
}

TEST(BadInputAnywhere, OfOddNamesThatAreGoodIsNone)
{
  const TempDir dir;
  Start start;
  start.directory = dir.path();
  for (const std::string& name : {std::string("new\nline"), std::string("\033[1m"), std::string("it's"),
         std::string("\xff\xfe"), std::string(" "), std::string(255, 'x')}) {
    const auto ended = run_lockrun({name, "echo", "ran"}, start);
    EXPECT_EQ(ended.out, "ran\n");
    EXPECT_EQ(ended.err, "");
    EXPECT_TRUE(std::filesystem::exists(dir / name));
  }
}

} // namespace
} // namespace lockrun::testing
