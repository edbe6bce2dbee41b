#include "sys/program.hpp"

#include "support/eventually.hpp"
#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "sys/channel.hpp"
#include "sys/file.hpp"
#include "sys/process.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using sys::ChildChange;

// A program as start() wants it; the words stay here.
struct Words {
  explicit Words(std::vector<std::string> all) : text(std::move(all))
  {
    for (std::string& word : text) { argv.push_back(word.data()); }
    argv.push_back(nullptr);
  }
  sys::Program program()
  {
    sys::Program result{};
    result.file = argv[0];
    result.argv = argv.data();
    return result;
  }
  std::vector<std::string> text;
  std::vector<char*> argv;
};

// Why there was no such program; code 0 if there was one.
SysError failure_of(const sys::Program& program)
{
  const auto child = sys::start(program);
  if (!child) { return child.error(); }
  EXPECT_TRUE(sys::wait_child(child->pid(), WEXITED));
  return child->failure().value_or(SysError{"", 0});
}

ChildChange ending_of(const sys::Program& program)
{
  const auto child = sys::start(program);
  if (!child) {
    ADD_FAILURE() << child.error().call;
    return {};
  }
  const auto change = sys::wait_child(child->pid(), WEXITED);
  EXPECT_TRUE(change && *change);
  EXPECT_FALSE(child->failure());
  return **change;
}

TEST(Start, RunsAProgramAndItsStatusIsWaitedFor)
{
  Words words({"sh", "-c", "exit 7"});
  const auto ending = ending_of(words.program());
  EXPECT_EQ(ending.kind, ChildChange::Kind::exited);
  EXPECT_EQ(ending.value, 7);
}

TEST(Start, TellsTheSignalThatEndedIt)
{
  Words words({"sh", "-c", "kill -KILL $$"});
  const auto ending = ending_of(words.program());
  EXPECT_EQ(ending.kind, ChildChange::Kind::killed);
  EXPECT_EQ(ending.value, SIGKILL);
}

struct ExecRow {
  const char* name;
  const char* file; // in a directory with: directory, plain (not executable), broken (#! nowhere)
  int code;
};
constexpr ExecRow k_exec_rows[] = {
  {"Missing", "none", ENOENT},
  {"BelowAFile", "plain/x", ENOTDIR},
  {"NotExecutable", "plain", EACCES},
  {"ADirectory", "directory", EACCES},
  {"InterpreterMissing", "broken", ENOENT},
};
class ExecFails : public ::testing::TestWithParam<ExecRow> {
protected:
  ExecFails()
  {
    std::filesystem::create_directory(dir / "directory");
    write_file(dir / "plain", "#!/bin/sh\n", 0644);
    write_file(dir / "broken", "#!/no/interpreter\n", 0755);
  }
  const TempDir dir;
};

TEST_P(ExecFails, WithTheKernelsErrnoAndNoChildLeft)
{
  Words words({dir / GetParam().file});
  const SysError error = failure_of(words.program());
  EXPECT_STREQ(error.call, "execve");
  EXPECT_EQ(error.code, GetParam().code);
  EXPECT_EQ(sys::wait_child(0, WEXITED | WNOHANG).error().code, ECHILD);
}
INSTANTIATE_TEST_SUITE_P(
  Table, ExecFails, ::testing::ValuesIn(k_exec_rows), [](const auto& row) { return row.param.name; });

TEST(Start, SearchesInPathAndSaysWhenItIsNotThere)
{
  Words words({"no-such-program-anywhere"});
  EXPECT_EQ(failure_of(words.program()).code, ENOENT);
}

TEST(Start, GivesAScriptWithoutInterpreterToTheShell)
{
  const TempDir dir;
  Words words({write_file(dir / "text", "exit $(($1 + $2))\n", 0755), "2", "3"});
  EXPECT_EQ(ending_of(words.program()).value, 5);
}

TEST(Start, TakesAVeryLongCommandLine)
{
  const TempDir dir;
  std::vector<std::string> all{write_file(dir / "text", "exit $(($# / 1000))\n", 0755)};
  all.resize(100'001, "x");
  Words words(std::move(all));
  EXPECT_EQ(ending_of(words.program()).value, 100);
}

TEST(Start, TellsWhenThereCanBeNoProcess)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  Forked limited([] {
    hostile::limit(RLIMIT_NPROC, 0)();
    hostile::become_user(k_nobody)(); // root has no limit
    Words words({"true"});
    const auto child = sys::start(words.program());
    if (child || std::string(child.error().call) != "clone") { return 0; }
    return child.error().code;
  });
  EXPECT_EQ(limited.wait(), exited(EAGAIN));
}

// --- what it starts with ---

// The program's view of its signals, from /proc/self/status: one hexadecimal mask.
std::string signals_of(const std::string& line, const sys::SignalSet& mask, bool ignores_child)
{
  const TempDir dir;
  // Not by a shell: dash has a handler of its own for SIGCHLD.
  Words words({"sed", "-n", "s/^" + line + ":.//w " + (dir / "out").string(), "/proc/self/status"});
  auto program = words.program();
  program.mask = mask;
  program.ignores_child = ignores_child;
  EXPECT_EQ(ending_of(program).value, 0);
  return read_file(dir / "out");
}

TEST(Start, SetsTheMask)
{
  EXPECT_EQ(signals_of("SigBlk", {}, false), "0000000000000000\n");
  EXPECT_EQ(signals_of("SigBlk", {SIGHUP, SIGALRM}, false), "0000000000002001\n");
}

TEST(Start, LeavesOurOwnMaskAsItWas)
{
  const sys::SignalSet before = sys::block_signals({SIGUSR1});
  (void)signals_of("SigBlk", {SIGUSR2}, false);
  const sys::SignalSet after = sys::set_signal_mask(before);
  EXPECT_TRUE(after.contains(SIGUSR1));
  EXPECT_FALSE(after.contains(SIGUSR2));
  EXPECT_FALSE(after.contains(SIGTERM));
}

TEST(Start, HandsDownWhatIsIgnored)
{
  Forked process([] {
    for (int number = 1; number < NSIG; ++number) { ::signal(number, SIG_DFL); }
    hostile::ignore(SIGALRM)();
    const std::string without = signals_of("SigIgn", {}, false);
    const std::string with = signals_of("SigIgn", {}, true);
    return without == "0000000000002000\n" && with == "0000000000012000\n" ? 0 : 2;
  });
  EXPECT_EQ(process.wait(), exited(0));
}

// Numbers of the descriptors above 2 that a program sees, when it inherits one under this limit (0: the usual).
std::string inherited_numbers(rlim_t limit)
{
  const TempDir dir;
  Forked process([&] {
    ::close_range(3, ~0U, 0);
    const sys::Descriptor fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (limit != 0) { hostile::limit(RLIMIT_NOFILE, limit)(); }
    const std::string out = dir / "out";
    // The shell has no free descriptor for the redirection under the lowest limits, so standard output is the file.
    ::close(1);
    if (::open(out.c_str(), O_WRONLY | O_CREAT, 0600) != 1) { return 1; }
    Words words({"sh", "-c", "for n in 3 4 5 6 7 8 9 10 11 12 13; do test -e /proc/$$/fd/$n && echo $n; done; exit 0"});
    auto program = words.program();
    const sys::Descriptor* const inherited[] = {&fd};
    program.inherited = inherited;
    return ending_of(program).value;
  });
  EXPECT_EQ(process.wait(), exited(0));
  return read_file(dir / "out");
}

TEST(Start, HandsADescriptorDownAbove9)
{
  EXPECT_EQ(inherited_numbers(0), "10\n");
  EXPECT_EQ(inherited_numbers(11), "10\n");
}

TEST(Start, HandsADescriptorDownAsHighAsTheLimitAllows)
{
  EXPECT_EQ(inherited_numbers(10), "9\n");
  EXPECT_EQ(inherited_numbers(6), "5\n");
  EXPECT_EQ(inherited_numbers(5), "4\n"); // with fewer there is no room for the shell's shared libraries
}

TEST(Start, HandsNothingElseDown)
{
  const TempDir dir;
  const auto fd = sys::open(dir.path().c_str(), O_RDONLY);
  Words words({"sh", "-c", "test ! -e /proc/$$/fd/" + std::to_string(fd->get())});
  EXPECT_EQ(ending_of(words.program()).value, 0);
}

// --- Bonds

// What is written into it opens it.
sys::SocketPair gate()
{
  return std::move(*sys::socket_pair(sys::SocketKind::packets));
}
void open_gate(const sys::SocketPair& gate)
{
  constexpr std::array<std::byte, 1> k_open{};
  EXPECT_TRUE(sys::send(gate.ours, k_open));
}

TEST(Bonds, LetAProgramBeginOnlyWhenItsGateIsOpen)
{
  const auto closed = gate();
  const sys::Bonds bonds{::getpid(), closed.theirs, nullptr};
  Words words({"true"});
  sys::Program program = words.program();
  program.bonds = &bonds;
  const auto child = sys::start(program);
  ASSERT_TRUE(child);
  const auto waits = [&] { return word_of_status(child->pid(), "State:") == "S"; };
  ASSERT_TRUE(eventually(waits));
  ASSERT_EQ(::kill(child->pid(), SIGSTOP), 0);
  ASSERT_TRUE(eventually([&] { return word_of_status(child->pid(), "State:") == "T"; }));
  ASSERT_EQ(::kill(child->pid(), SIGCONT), 0);
  ASSERT_TRUE(eventually(waits)); // that it was stopped does not open it
  EXPECT_NE(word_of_status(child->pid(), "Name:"), "true");
  open_gate(closed);
  EXPECT_EQ((*sys::wait_child(child->pid(), WEXITED))->value, 0);
  EXPECT_FALSE(child->failure());
}

TEST(Bonds, EndAProgramWithItsParent)
{
  Pipe witness; // closed by the program's end
  Forked parent([&] {
    const auto open = gate();
    open_gate(open);
    const sys::Bonds bonds{::getpid(), open.theirs, nullptr};
    Words words({"sh", "-c", "echo >&" + std::to_string(witness.write_end) + "; exec sleep 1d"});
    sys::Program program = words.program();
    program.bonds = &bonds;
    ::fcntl(witness.write_end, F_SETFD, 0);
    if (!sys::start(program)) { return 1; }
    char byte = 0;
    return ::read(witness.read_end, &byte, 1) == 1 ? 0 : 2;
  });
  EXPECT_EQ(parent.wait(), exited(0));
  witness.close_write();
  char byte = 0;
  EXPECT_EQ(::read(witness.read_end, &byte, 1), 0);
}

TEST(Bonds, LetNoProgramBeginWhoseParentHasEndedBefore)
{
  const auto open = gate();
  const sys::Bonds bonds{::getppid(), open.theirs, nullptr}; // as if we had taken its place
  Words words({"true"});
  sys::Program program = words.program();
  program.bonds = &bonds;
  EXPECT_EQ(failure_of(program).code, ESRCH);
}

// The descriptor is none of a control group's directory, as where the kernel cannot do it.
TEST(Bonds, DoWithoutAControlGroup)
{
  const auto open = gate();
  open_gate(open);
  const auto directory = sys::open("/", O_RDONLY | O_DIRECTORY);
  const sys::Bonds bonds{::getpid(), open.theirs, &*directory};
  Words words({"sh", "-c", "exit 4"});
  sys::Program program = words.program();
  program.bonds = &bonds;
  EXPECT_EQ(ending_of(program).value, 4);
}

// --- execute ---

TEST(Execute, BecomesTheProgram)
{
  Forked process([] {
    Words words({"sh", "-c", "exit 9"});
    (void)sys::execute(words.program());
    return 1;
  });
  EXPECT_EQ(process.wait(), exited(9));
}

TEST(Execute, ReturnsOnlyInFailure)
{
  Forked process([] {
    Words words({"/no/such/program"});
    const SysError error = sys::execute(words.program());
    return std::string(error.call) == "execve" ? error.code : 0;
  });
  EXPECT_EQ(process.wait(), exited(ENOENT));
}

// What `printenv` prints in a program that we start with `assignments` on top of A=1, AB=2, B=3.
std::string environment_of_program(const std::vector<std::string>& assignments)
{
  const TempDir dir;
  const std::string out = (dir / "out").native();
  Forked process([&] {
    ::clearenv();
    for (const char* const variable : {"A=1", "AB=2", "B=3"}) { ::putenv(const_cast<char*>(variable)); }
    const auto environment = sys::environment_with(assignments);
    Words words({"/bin/sh", "-c", "exec /usr/bin/printenv >" + out});
    auto program = words.program();
    program.environment = environment.data();
    return ending_of(program).value;
  });
  EXPECT_EQ(process.wait(), exited(0));
  return read_file(out);
}

TEST(Environment, HasWhatIsAssignedInThePlaceOfTheSameNames)
{
  EXPECT_THAT(environment_of_program({"A=new", "C="}), ::testing::HasSubstr("A=new\n"));
  EXPECT_THAT(environment_of_program({"A=new", "C="}), ::testing::HasSubstr("AB=2\n"));
  EXPECT_THAT(environment_of_program({"A=new", "C="}), ::testing::HasSubstr("C=\n"));
  EXPECT_THAT(environment_of_program({"A=new", "C="}), ::testing::Not(::testing::HasSubstr("A=1\n")));
}

} // namespace
} // namespace lockrun::testing
