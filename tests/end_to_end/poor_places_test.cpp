// Where the kernel, a container or a file server answers what it hardly ever does: there is a line that says so, or
// nothing is noticed at all.

#include "end_to_end/trace.hpp"
#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "support/traced.hpp"

#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

class PoorPlace : public ::testing::Test {
protected:
  TempDir dir;
  std::string lock = dir / "lock";
};

std::size_t lines_in(const std::string& text)
{
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

// --- standard output that cannot be written ---

struct Output {
  const char* name;
  const char* error;
  std::function<void()> hook; // in the program, before it executes
};

void give_standard_output(int fd)
{
  ::dup2(fd, STDOUT_FILENO);
  ::close(fd);
}

const Output k_outputs[] = {
  {"full", "(ENOSPC)", [] { give_standard_output(::open("/dev/full", O_WRONLY)); }},
  {"closed", "(EBADF)", [] { ::close(STDOUT_FILENO); }},
  {"read_only", "(EBADF)", [] { give_standard_output(::open("/dev/null", O_RDONLY)); }},
  {"pipe_without_a_reader", "(EPIPE)",
    [] {
      int ends[2];
      if (::pipe(ends) != 0) { return; }
      ::close(ends[0]);
      give_standard_output(ends[1]);
    }},
};

class UnwritableOutput : public PoorPlace, public ::testing::WithParamInterface<Output> {
protected:
  void expect_one_line_and_74(const Words& argv, const std::string& program)
  {
    Start start;
    start.out = k_null;
    start.before_exec = {GetParam().hook};
    for (const bool has_input : {true, false}) { // without, standard output is not the lowest that is closed
      start.in = has_input ? k_null : k_closed;
      const auto ended = run_program(argv, start);
      EXPECT_EQ(ended.status, exited(74)) << ::testing::PrintToString(argv);
      EXPECT_THAT(ended.err, StartsWith(program + ": cannot write to standard output: "));
      EXPECT_THAT(ended.err, HasSubstr(GetParam().error));
      EXPECT_EQ(lines_in(ended.err), 1U) << ended.err;
    }
  }
};

TEST_P(UnwritableOutput, IsSaidInOneLineWithStatus74)
{
  const Words asked[] = {
    {"--help"}, {"--version"}, {"--status", lock}, {"--status", "--json", lock}, {"--probe", lock}};
  for (const Words& arguments : asked) { expect_one_line_and_74(lockrun_argv(arguments), "lockrun"); }
}

TEST_P(UnwritableOutput, IsSaidWhenALockIsHeldToo)
{
  const HoldingProcess holder(lock);
  expect_one_line_and_74(lockrun_argv({"--status", lock}), "lockrun");
}

TEST_P(UnwritableOutput, IsSaidByTheTimelineToo)
{
  const std::string timeline = std::filesystem::path(lockrun_binary()).parent_path() / "lockrun-timeline";
  const std::string events = dir / "events";
  ASSERT_EQ(run_lockrun({"--events", events, lock, "true"}).status, exited(0));
  for (const Words& arguments : {Words{"--help"}, {"--version"}, {events}, {"--svg", "-", events}}) {
    Words argv{timeline};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    expect_one_line_and_74(argv, "lockrun-timeline");
  }
}

INSTANTIATE_TEST_SUITE_P(
  Table, UnwritableOutput, ::testing::ValuesIn(k_outputs), [](const auto& row) { return row.param.name; });

TEST_F(PoorPlace, HasALimitOnTheSizeOfFilesAndTheOutputIsSaidNotToFit)
{
  if (has_thread_sanitizer(lockrun_binary())) { GTEST_SKIP() << "SIGXFSZ ends it though blocked"; }
  Start start;
  start.out = to_file(dir / "out");
  start.err = k_pipe;
  start.before_exec = {hostile::limit(RLIMIT_FSIZE, 0)};
  for (const Words& arguments : {Words{"--help"}, {"--version"}, {"--status", lock}}) {
    Process limited(lockrun_argv(arguments), start);
    EXPECT_EQ(limited.err_line(), "lockrun: cannot write to standard output: File too large (EFBIG)");
    EXPECT_EQ(limited.wait().status, exited(74));
  }
}

// --- hardly any descriptors ---

// Sets the limit where the program has been loaded, which takes more than that: before the first call that is its own,
// a look at which of its standard descriptors are open.
Finished run_with_descriptors(rlim_t most, const Words& arguments)
{
  Start start;
  start.before_exec = {Traced::on_start()};
  Process started(lockrun_argv(arguments), start);
  Traced traced(started.pid());
  while (traced.next()) {
    if (!traced.at_entry() || (traced.call() != SYS_ppoll && traced.call() != SYS_poll)) { continue; }
    const rlimit limit{most, most};
    EXPECT_EQ(::prlimit(started.pid(), RLIMIT_NOFILE, &limit, nullptr), 0);
    break;
  }
  traced.let_go();
  return started.wait();
}

TEST_F(PoorPlace, AllowsFewerThanThreeDescriptors)
{
  if (is_sanitized(lockrun_binary())) { GTEST_SKIP() << "it polls for itself"; }
  write_file(lock, "");
  for (const rlim_t most : {0U, 1U, 2U}) {
    for (const Words& arguments :
      {Words{lock, "echo", "ran"}, {"-n", lock, "echo", "ran"}, {"--status", lock}, {"--probe", lock}}) {
      const auto ended = run_with_descriptors(most, arguments);
      EXPECT_EQ(ended.status, exited(71)) << most;
      EXPECT_EQ(ended.out, "");
      EXPECT_EQ(ended.err, "lockrun: cannot open any file: Too many open files (EMFILE); see 'ulimit -n'\n");
    }
  }
}

TEST_F(PoorPlace, AllowsThreeDescriptorsAndTheLockFileIsNamed)
{
  if (is_sanitized(lockrun_binary())) { GTEST_SKIP() << "it polls for itself"; }
  const auto ended = run_with_descriptors(3, {lock, "echo", "ran"});
  EXPECT_EQ(ended.status, exited(71));
  EXPECT_THAT(ended.err, StartsWith("lockrun: cannot open '" + lock + "': Too many open files (EMFILE)\n"));
}

TEST_F(PoorPlace, AllowsTooFewDescriptorsToSeeWhetherItIsFree)
{
  if (is_sanitized(lockrun_binary())) { GTEST_SKIP() << "it polls for itself"; }
  const HoldingProcess holder(lock);
  const auto ended = run_with_descriptors(3, {"--status", lock});
  EXPECT_EQ(ended.status, exited(71)) << ended.out;
  EXPECT_THAT(ended.err, HasSubstr("Too many open files (EMFILE)"));
}

// --- statx(2) refused ---

class RefusedStatx : public PoorPlace, public ::testing::WithParamInterface<const char*> {
protected:
  void SetUp() override
  {
    if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  }

  Words refused(const Words& arguments) const
  {
    return traced(dir / "log", {"-f", "-e", std::string("inject=statx:error=") + GetParam()}, arguments);
  }
};

TEST_P(RefusedStatx, StillFindsTheLockOfAnAncestor)
{
  Words outer = lockrun_argv({lock});
  const Words inner = refused({lock, "echo", "ran"});
  outer.insert(outer.end(), inner.begin(), inner.end());
  const auto ended = run_program(outer);
  EXPECT_EQ(ended.status, exited(75)) << ended.err;
  EXPECT_EQ(ended.out, "");
  EXPECT_THAT(ended.err, HasSubstr("is held by PID "));
  EXPECT_THAT(read_file(dir / "log"), HasSubstr("INJECTED")); // otherwise nothing was tested
}

TEST_P(RefusedStatx, StillNamesTheHolder)
{
  const HoldingProcess holder(lock);
  const auto ended = run_program(refused({"--status", lock}));
  EXPECT_EQ(ended.status, exited(75)) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr(fmt::format("  {}  ", holder.pid())));
}

INSTANTIATE_TEST_SUITE_P(
  Table, RefusedStatx, ::testing::Values("ENOSYS", "EPERM"), [](const auto& row) { return std::string(row.param); });

// --- EINTR ---

struct Call {
  const char* name;
  Words arguments; // LOCK is the lock, HELD another one that is held, EVENTS a file
  int status = 0;
  const char* out = "ran\n";
};

const Call k_calls[] = {
  {"plain", {"LOCK", "echo", "ran"}},
  {"patient", {"-w", "10", "LOCK", "echo", "ran"}},
  {"both", {"--api", "both", "LOCK", "echo", "ran"}},
  {"fair", {"--fair", "LOCK", "echo", "ran"}},
  {"slots", {"--slots", "2", "LOCK", "echo", "ran"}},
  {"name", {"name:NAME", "echo", "ran"}},
  {"several", {"--also", "ALSO", "LOCK", "echo", "ran"}},
  {"mode", {"--mode", "666", "LOCK", "echo", "ran"}},
  {"unlink", {"--unlink", "LOCK", "echo", "ran"}},
  {"events", {"--events", "EVENTS", "LOCK", "echo", "ran"}},
  {"tree", {"--hold", "tree", "LOCK", "echo", "ran"}},
  {"busy", {"-n", "HELD", "echo", "ran"}, 75, ""},
  {"status", {"--status", "HELD"}, 75, "HELD"},
  {"free", {"--status", "LOCK"}, 0, "LOCK"},
  {"probe", {"--probe", "LOCK"}, 0, "works"},
};

// What may be interrupted: by a handler in a program that uses the library, or by a file server (FUSE).
constexpr const char* k_interruptible[] = {"open", "openat", "stat", "newfstatat", "fstat", "statx", "mkdir", "unlink",
  "read", "pread64", "getdents64", "readlink", "readlinkat", "linkat", "fchmod", "flock", "poll", "ppoll", "fstatfs",
  "waitid"};

// A look at all the processes of the machine makes thousands of them.
constexpr int k_most = 15;

class Interruption : public PoorPlace, public ::testing::WithParamInterface<Call> {
protected:
  std::string held = dir / "held";
  HoldingProcess holder{held};

  Words arguments() const
  {
    Words words = GetParam().arguments;
    for (std::string& word : words) {
      if (word == "LOCK") { word = lock; }
      if (word == "ALSO") { word = dir / "also"; }
      if (word == "HELD") { word = held; }
      if (word == "EVENTS") { word = dir / "events"; }
      if (word == "name:NAME") { word = fmt::format("name:interruption-{}", ::getpid()); }
    }
    return words;
  }

  Finished run(const Words& how)
  {
    ::unlink(lock.c_str());
    if (GetParam().arguments.front().starts_with("--status")) { write_file(lock, ""); }
    return run_program(traced(dir / "log", how, arguments()));
  }

  // How often each system call is made before the first one that is the program's own: the loader of a shared C library
  // would give up.
  std::map<std::string, int> calls_of_loader()
  {
    (void)run({});
    std::map<std::string, int> calls;
    std::istringstream log(read_file(dir / "log"));
    for (std::string line; std::getline(log, line);) {
      const std::string call = line.substr(0, line.find('('));
      if (call == "poll" || call == "ppoll") { break; }
      ++calls[call];
    }
    return calls;
  }
};

TEST_P(Interruption, ChangesNothing)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  if (is_sanitized(lockrun_binary())) { GTEST_SKIP() << "it makes calls of its own"; }
  auto before = calls_of_loader();
  int interruptions = 0;
  for (const char* const call : k_interruptible) {
    const int first = before[call] + 1;
    for (int number = first; number < first + k_most; ++number) {
      const auto ended = run({"-e", fmt::format("inject=?{}:error=EINTR:when={}", call, number)});
      if (read_file(dir / "log").find("INJECTED") == std::string::npos) { break; } // there are no more of them
      ++interruptions;
      EXPECT_EQ(ended.status, exited(GetParam().status)) << call << " " << number << ": " << ended.err;
      const std::string wanted = GetParam().out;
      if (wanted == "ran\n" || wanted.empty()) { EXPECT_EQ(ended.out, wanted) << call << " " << number; }
      if (wanted == "HELD") { EXPECT_THAT(ended.out, HasSubstr(fmt::format("  {}  ", holder.pid()))); }
      if (wanted == "LOCK") { EXPECT_THAT(ended.out, HasSubstr("free")); }
      if (wanted == "works") { EXPECT_THAT(ended.out, HasSubstr("ofd          works")); }
      if (GetParam().status == 75 && wanted.empty()) {
        EXPECT_THAT(ended.err, HasSubstr(fmt::format("is held by PID {} ", holder.pid()))) << call << " " << number;
      } else {
        EXPECT_EQ(ended.err, "") << call << " " << number;
      }
    }
  }
  EXPECT_GT(interruptions, 5);
}

INSTANTIATE_TEST_SUITE_P(
  Table, Interruption, ::testing::ValuesIn(k_calls), [](const auto& row) { return row.param.name; });

// --- ESTALE ---

TEST_F(PoorPlace, HasLostTheFileWhileItWasWaitedFor)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  for (const Words& options : {Words{}, {"--fair"}, {"-w", "1h"}, {"--also", dir / "also"}}) {
    HoldingProcess holder(lock);
    Words arguments = options;
    arguments.insert(arguments.end(), {lock, "echo", "ran"});
    // The first flock(2) does not wait, the second one does.
    const bool is_fair = options == Words{"--fair"};
    const Words how{"-P", lock, "-e", fmt::format("inject={}:error=ESTALE:when=2", is_fair ? "fcntl" : "flock")};
    Process waiter(traced(dir / "log", how, arguments));
    ASSERT_TRUE(eventually(
      [&] { return kernel_waiters(lock) > 0 && read_file(dir / "log").find("INJECTED") != std::string::npos; }))
      << ::testing::PrintToString(options);
    holder.release();
    const auto ended = waiter.wait();
    EXPECT_EQ(ended.status, exited(0)) << ended.err;
    EXPECT_EQ(ended.out, "ran\n");
  }
}

TEST_F(PoorPlace, HasLostTheFileWhileItWasWaitedForAndTheTimeIsUp)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  const HoldingProcess holder(lock);
  const Words how{"-P", lock, "-e", "inject=flock:error=ESTALE:when=2"};
  const auto ended = run_program(traced(dir / "log", how, {"-w", ".1", lock, "echo", "ran"}));
  EXPECT_EQ(ended.status, exited(75)) << ended.err;
  EXPECT_THAT(read_file(dir / "log"), HasSubstr("INJECTED"));
}

TEST_F(PoorPlace, LosesTheFileOnceAnywhere)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  int losses = 0;
  for (const char* const call : {"openat", "newfstatat", "fstat", "stat", "flock"}) {
    for (int number = 1; number < k_most; ++number) {
      ::unlink(lock.c_str());
      const Words how{"-P", lock, "-e", fmt::format("inject=?{}:error=ESTALE:when={}", call, number)};
      const auto ended = run_program(traced(dir / "log", how, {lock, "echo", "ran"}));
      if (read_file(dir / "log").find("INJECTED") == std::string::npos) { break; }
      ++losses;
      EXPECT_EQ(ended.status, exited(0)) << call << " " << number << ": " << ended.err;
      EXPECT_EQ(ended.out, "ran\n");
    }
  }
  EXPECT_GE(losses, 4);
}

// --- --status where the file system fails ---

struct Failure {
  const char* name;
  Words how; // of strace
  const char* error;
  int status;
};

const Failure k_failures[] = {
  {"flock_eio", {"-e", "inject=flock:error=EIO"}, "cannot lock 'LOCK': Input/output error (EIO)", 74},
  {"flock_enolck", {"-e", "inject=flock:error=ENOLCK"}, "cannot lock 'LOCK': No locks available (ENOLCK)", 74},
  {"flock_estale", {"-e", "inject=flock:error=ESTALE"}, "cannot lock 'LOCK': Stale file handle (ESTALE)", 74},
  {"fcntl_enolck", {"-e", "inject=fcntl:error=ENOLCK"}, "cannot lock 'LOCK': No locks available (ENOLCK)", 74},
  {"flock_unsupported", {"-e", "inject=flock:error=EOPNOTSUPP"},
    "cannot lock 'LOCK': Operation not supported (EOPNOTSUPP)", 69},
  {"open_eio", {"-e", "inject=openat:error=EIO"}, "cannot open 'LOCK': Input/output error (EIO)", 74},
  {"open_estale", {"-e", "inject=openat:error=ESTALE"}, "cannot open 'LOCK': Stale file handle (ESTALE)", 74},
};

class FailingStatus : public PoorPlace, public ::testing::WithParamInterface<Failure> {};

TEST_P(FailingStatus, IsAFailureAndNotALackOfPermission)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  write_file(lock, "");
  Words how = GetParam().how;
  how.insert(how.end(), {"-P", lock});
  const auto ended = run_program(traced(dir / "log", how, {"--status", lock}));
  EXPECT_EQ(ended.status, exited(GetParam().status));
  EXPECT_EQ(ended.out, "");
  std::string error = GetParam().error;
  error.replace(error.find("LOCK"), 4, lock);
  EXPECT_THAT(ended.err, StartsWith("lockrun: " + error + "\n"));
}

TEST_P(FailingStatus, DoesNotKeepFromTheOtherLocks)
{
  if (!can_trace()) { GTEST_SKIP() << "strace does not work here"; }
  write_file(lock, "");
  const HoldingProcess holder(dir / "held");
  Words how = GetParam().how;
  how.insert(how.end(), {"-P", lock});
  const auto ended = run_program(traced(dir / "log", how, {"--status", lock, dir / "held"}));
  EXPECT_EQ(ended.status, exited(GetParam().status));
  EXPECT_THAT(ended.out, HasSubstr(fmt::format("  {}  ", holder.pid())));
}

INSTANTIATE_TEST_SUITE_P(
  Table, FailingStatus, ::testing::ValuesIn(k_failures), [](const auto& row) { return row.param.name; });

} // namespace
} // namespace lockrun::testing
