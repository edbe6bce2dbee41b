// The section "Queues and slots" of the manual, by the real program.

#include "end_to_end/trace.hpp"
#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/kernel_locks.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <algorithm>
#include <csignal>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

Words operator+(Words first, const Words& second)
{
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

Start both_pipes()
{
  Start start;
  start.in = start.out = k_pipe;
  return start;
}

// A call whose command says something, which is its slot's number unless told otherwise, and ends when it is let go.
class Call {
public:
  explicit Call(const Words& arguments, const std::string& says = "${LOCKRUN_SLOT-none}")
    : m_process(lockrun_argv(arguments + Words{"sh", "-c", "echo " + says + "; echo $$; read go"}), both_pipes())
  {}

  // Waits until the command runs.
  std::string says()
  {
    const std::string line = m_process.out_line().value_or("nothing");
    m_command = std::stoi(m_process.out_line().value_or("0"));
    return line;
  }
  pid_t pid() const { return m_process.pid(); }
  pid_t command() const { return m_command; }
  void signal(int number) const { m_process.signal(number); }
  Finished end()
  {
    m_process.write("\n");
    return m_process.wait();
  }
  Finished wait() { return m_process.wait(); }

private:
  Process m_process;
  pid_t m_command = 0;
};

class Queues : public ::testing::Test {
protected:
  bool has_waiters(int count) const
  {
    return eventually([&] { return kernel_waiters(lock) == count; });
  }
  // Who queues, in their order.
  std::vector<pid_t> places() const
  {
    std::map<long long, pid_t> found;
    for (const auto& line : kernel_holders(lock)) {
      if (line.api == "POSIX") { found[std::stoll(line.start)] = line.pid; }
    }
    std::vector<pid_t> pids;
    for (const auto& [start, pid] : found) { pids.push_back(pid); }
    return pids;
  }
  bool has_places(std::size_t count) const
  {
    return eventually([&] { return places().size() == count; });
  }
  WaitStatus try_once(const Words& options) const
  {
    return run_lockrun(Words{"-n", "-q"} + options + Words{lock, "true"}).status;
  }

  const TempDir dir;
  const std::string lock = dir / "lock";
};

// --- slots ---

TEST_F(Queues, EachHolderHasASlotOfItsOwn)
{
  std::vector<Call> holders;
  std::set<std::string> slots;
  for (int i = 0; i < 3; ++i) {
    holders.emplace_back(Words{"--slots", "3", lock});
    slots.insert(holders.back().says());
  }
  EXPECT_EQ(slots, (std::set<std::string>{"0", "1", "2"}));
  EXPECT_EQ(try_once({"--slots", "3"}), exited(75));
  EXPECT_EQ(try_once({"--slots", "4"}), exited(0));
  EXPECT_EQ(try_once({"--slots", "2"}), exited(75));
  for (Call& holder : holders) { EXPECT_EQ(holder.end().status, exited(0)); }
}

TEST_F(Queues, WithoutSlotsTheCommandIsToldNone)
{
  Call plain({lock});
  EXPECT_EQ(plain.says(), "none");
  EXPECT_EQ(plain.end().status, exited(0));
}

TEST_F(Queues, TheSlotOfAKilledHolderIsFreeAtOnce)
{
  Call first({"-j2", lock});
  ASSERT_EQ(first.says(), "0");
  Call second({"-j2", lock});
  ASSERT_EQ(second.says(), "1");
  Call waiter({"-j2", lock});
  ASSERT_TRUE(has_waiters(2)); // one for each slot
  // The command inherited the slot: as long as it lives the slot is its own.
  first.signal(SIGKILL);
  EXPECT_EQ(first.wait().status, killed(SIGKILL));
  EXPECT_EQ(try_once({"-j2"}), exited(75));
  ::kill(first.command(), SIGKILL);
  EXPECT_EQ(waiter.says(), "0");
  EXPECT_EQ(waiter.end().status, exited(0));
  EXPECT_EQ(second.end().status, exited(0));
}

TEST_F(Queues, WhoeverTheCommandBecomesHasTheSlot)
{
  for (const char* const lifetime : {"-F", "-o"}) {
    Call holder({lifetime, "-j1", lock});
    EXPECT_EQ(holder.says(), "0");
    EXPECT_EQ(try_once({"-j1"}), exited(75));
    EXPECT_EQ(holder.end().status, exited(0));
    EXPECT_EQ(try_once({"-j1"}), exited(0));
  }
}

TEST_F(Queues, AnExclusiveLockExcludesAllSlots)
{
  Call first({"-j4", lock});
  ASSERT_EQ(first.says(), "0");
  EXPECT_FALSE(is_free(lock)); // for flock(1) as well
  EXPECT_EQ(try_once({}), exited(75));
  EXPECT_EQ(try_once({"--fair"}), exited(75));
  EXPECT_EQ(try_once({"-s"}), exited(0));
  Call exclusive({lock}, "exclusive");
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(first.end().status, exited(0));
  EXPECT_EQ(exclusive.says(), "exclusive");
  EXPECT_EQ(try_once({"-j4"}), exited(75));
  EXPECT_EQ(exclusive.end().status, exited(0));
  EXPECT_EQ(try_once({"-j4"}), exited(0));
}

TEST_F(Queues, ASlotThatBecomesFreeIsTakenAlsoWhereTheKernelQueuesNoSignals)
{
  for (int freed = 0; freed < 2; ++freed) {
    std::vector<Call> holders;
    for (int i = 0; i < 2; ++i) {
      holders.emplace_back(Words{"--slots", "2", lock});
      ASSERT_EQ(holders.back().says(), std::to_string(i));
    }
    Start start;
    start.before_exec = {hostile::limit(RLIMIT_SIGPENDING, 0)};
    Process waiter(lockrun_argv({"--slots", "2", lock, "sh", "-c", "echo $LOCKRUN_SLOT"}), start);
    ASSERT_TRUE(has_waiters(2));
    (void)holders[static_cast<std::size_t>(freed)].end();
    EXPECT_EQ(waiter.wait().out, std::to_string(freed) + "\n");
    (void)holders[static_cast<std::size_t>(1 - freed)].end();
  }
}

TEST_F(Queues, ACallWithSlotsIsNestedWhenItsAncestorsHaveThemAll)
{
  const auto nested = [&](const char* slots) {
    return run_lockrun({"-j1", lock, lockrun_binary(), slots, lock, "sh", "-c", "echo $LOCKRUN_SLOT"});
  };
  EXPECT_EQ(nested("-j2").out, "1\n");
  const Finished refused = nested("-j1");
  EXPECT_EQ(refused.status, exited(75));
  EXPECT_THAT(refused.err, HasSubstr("a parent process of this lockrun"));
}

// The exclusive caller waits for the slot of our ancestor, and our ancestor for us.
TEST_F(Queues, ANestedCallGoesBeforeThoseWhoQueueAlsoWhenThatIsFoundOutWhileItWaits)
{
  Process outer(lockrun_argv({"-o", "-j2", lock, "sh", "-c",
                  "read go; unset LOCKRUN_PID; " + lockrun_binary() + " -j2 " + lock + " echo inner"}),
    both_pipes());
  ASSERT_TRUE(eventually([&] { return !is_free(lock); }));
  Call exclusive({"--fair", lock}, "exclusive");
  ASSERT_TRUE(has_waiters(1));
  outer.write("\n");
  EXPECT_EQ(outer.out_line(), "inner");
  EXPECT_EQ(outer.wait().status, exited(0));
  EXPECT_EQ(exclusive.says(), "exclusive");
}

// What it waits for is not its ancestor's slot.
TEST_F(Queues, ANestedCallThatIsNoConflictQueuesAgain)
{
  Process outer(lockrun_argv({"-o", "-j2", lock, "sh", "-c",
                  "read go; unset LOCKRUN_PID; " + lockrun_binary() + " -j2 " + lock + " echo inner"}),
    both_pipes());
  ASSERT_TRUE(eventually([&] { return !is_free(lock); }));
  Call stranger({"-j2", lock});
  ASSERT_EQ(stranger.says(), "1");
  const int turn = ::open("/proc", O_RDONLY | O_CLOEXEC); // nobody looks as long as it is ours
  ASSERT_TRUE(eventually([&] { return ::flock(turn, LOCK_EX | LOCK_NB) == 0; }));
  Call first({"-j2", lock}); // with nobody before it, the nested call would get the same place again
  ASSERT_TRUE(has_places(1));
  outer.write("\n");
  ASSERT_TRUE(has_places(2));
  Call last({"-j2", lock});
  ASSERT_TRUE(has_places(3));
  ::close(turn);
  EXPECT_TRUE(eventually([&] {
    const auto waiting = places();
    return waiting.size() == 3 && waiting.back() != last.pid() && waiting.front() == first.pid();
  }));
  EXPECT_EQ(stranger.end().status, exited(0));
  EXPECT_EQ(first.says(), "1");
  EXPECT_EQ(first.end().status, exited(0));
  EXPECT_EQ(last.says(), "1");
  EXPECT_EQ(last.end().status, exited(0));
  EXPECT_EQ(outer.out_line(), "inner");
  EXPECT_EQ(outer.wait().status, exited(0));
}

// --- in order ---

TEST_F(Queues, FairCallersAreServedInTheOrderOfTheirArrival)
{
  Call holder({"--fair", lock});
  ASSERT_EQ(holder.says(), "none");
  std::vector<std::unique_ptr<Process>> waiters;
  std::string expected;
  for (const char kind : std::string("xsxxsxxxsx")) {
    const std::string name = kind + std::to_string(waiters.size());
    expected += name + "\n";
    waiters.push_back(std::make_unique<Process>(lockrun_argv(
      {"--fair", kind == 's' ? "-s" : "-x", lock, "sh", "-c", "echo " + name + " >>" + (dir / "order").string()})));
    ASSERT_TRUE(has_waiters(static_cast<int>(waiters.size())));
  }
  EXPECT_EQ(holder.end().status, exited(0));
  for (const auto& waiter : waiters) { EXPECT_EQ(waiter->wait().status, exited(0)); }
  EXPECT_EQ(read_file(dir / "order"), expected);
}

TEST_F(Queues, ReadersCannotStarveAFairWriter)
{
  Call reader({"--fair", "-s", lock});
  ASSERT_EQ(reader.says(), "none");
  Call writer({"--fair", lock}, "writes");
  ASSERT_TRUE(has_waiters(1));
  const Finished refused = run_lockrun({"-n", "--fair", "-s", lock, "true"});
  EXPECT_EQ(refused.status, exited(75));
  EXPECT_THAT(refused.err, HasSubstr(", and 1 wait already\n"));
  EXPECT_EQ(try_once({"-s"}), exited(0)); // the twin: a reader that is not fair goes before the writer
  EXPECT_EQ(reader.end().status, exited(0));
  EXPECT_EQ(writer.says(), "writes");
  EXPECT_EQ(writer.end().status, exited(0));
}

// How often the first thread of `pid`, which is the one that waits for the lock, was put to sleep.
std::string sleeps_of(pid_t pid)
{
  std::ifstream status("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("voluntary_ctxt_switches:")) { return line; }
  }
  return {};
}

TEST_F(Queues, AReleaseWakesTheFirstTwoAndNobodyElse)
{
  Call holder({"--fair", lock});
  ASSERT_EQ(holder.says(), "none");
  std::vector<Call> waiters;
  std::vector<std::string> before;
  for (int i = 0; i < 8; ++i) {
    waiters.emplace_back(Words{"--fair", lock});
    ASSERT_TRUE(has_waiters(i + 1));
  }
  ASSERT_TRUE(eventually([&] {
    return std::all_of(waiters.begin(), waiters.end(), [](const Call& call) { return is_asleep(call.pid()); });
  }));
  for (const Call& waiter : waiters) { before.push_back(sleeps_of(waiter.pid())); }
  EXPECT_EQ(holder.end().status, exited(0));
  EXPECT_EQ(waiters[0].says(), "none");                                              // has it
  ASSERT_TRUE(eventually([&] { return sleeps_of(waiters[1].pid()) != before[1]; })); // is the first one now
  ASSERT_TRUE(has_waiters(7));
  for (std::size_t i = 2; i < waiters.size(); ++i) { EXPECT_EQ(sleeps_of(waiters[i].pid()), before[i]) << i; }
  EXPECT_EQ(waiters[0].end().status, exited(0));
  for (std::size_t i = 1; i < waiters.size(); ++i) {
    EXPECT_EQ(waiters[i].says(), "none");
    EXPECT_EQ(waiters[i].end().status, exited(0));
  }
}

TEST_F(Queues, OrdinaryUsersOfTheFileExcludeAndAreExcluded)
{
  for (const Words& options : {Words{"--fair"}, Words{"-j2"}}) {
    HoldingProcess ordinary(lock); // no ancestor of the caller's
    EXPECT_EQ(try_once(options), exited(75));
    Call waiter(options + Words{lock}, "in");
    ASSERT_TRUE(has_waiters(1));
    ordinary.release();
    EXPECT_EQ(waiter.says(), "in");
    EXPECT_FALSE(is_free(lock));
    EXPECT_EQ(waiter.end().status, exited(0));
    EXPECT_TRUE(is_free(lock));
  }
}

TEST_F(Queues, AKilledWaiterIsInNobodysWay)
{
  for (const Words& options : {Words{"--fair"}, Words{"-j1"}}) {
    Call holder(options + Words{lock}, "holds");
    ASSERT_EQ(holder.says(), "holds");
    Call head(options + Words{lock});
    ASSERT_TRUE(has_waiters(1));
    Call second(options + Words{lock});
    ASSERT_TRUE(has_waiters(2));
    Call third(options + Words{lock}, "third");
    ASSERT_TRUE(has_waiters(3));
    second.signal(SIGKILL);
    EXPECT_EQ(second.wait().status, killed(SIGKILL));
    head.signal(SIGKILL);
    EXPECT_EQ(head.wait().status, killed(SIGKILL));
    EXPECT_EQ(holder.end().status, exited(0));
    EXPECT_EQ(third.says(), "third");
    EXPECT_EQ(third.end().status, exited(0));
  }
}

// --- not too many ---

TEST_F(Queues, AStampedeLeavesAsManyWaitersAsMayWait)
{
  constexpr int k_arrivals = 100;
  constexpr int k_limit = 7;
  HoldingProcess holder(lock);
  std::vector<Process> arrivals;
  for (int i = 0; i < k_arrivals; ++i) {
    arrivals.emplace_back(lockrun_argv({"-q", "--max-waiters", std::to_string(k_limit), lock, "true"}));
  }
  ASSERT_TRUE(has_waiters(k_limit));
  // Those who wait have nothing else to do before the lock is free; all others end.
  ASSERT_TRUE(eventually([&] {
    return std::count_if(arrivals.begin(), arrivals.end(), [](const Process& arrival) {
      return read_file("/proc/" + std::to_string(arrival.pid()) + "/cmdline").empty(); // a zombie
    }) == k_arrivals - k_limit;
  }));
  holder.release();
  int served = 0;
  for (Process& arrival : arrivals) {
    const WaitStatus status = arrival.wait().status;
    EXPECT_TRUE(status == exited(0) || status == exited(75)) << status;
    served += status == exited(0) ? 1 : 0;
  }
  EXPECT_EQ(served, k_limit);
}

TEST_F(Queues, OneMoreRunIsEnough)
{
  const Words debounced = {"--max-waiters", "1", "-E", "0", lock};
  Call first(debounced, "first");
  ASSERT_EQ(first.says(), "first");
  Call pending(debounced, "pending");
  ASSERT_TRUE(has_waiters(1));
  const Finished third = run_lockrun(debounced + Words{"echo", "third"});
  EXPECT_EQ(third.status, exited(0));
  EXPECT_EQ(third.out, "");
  EXPECT_THAT(third.err, HasSubstr("the limit of waiters (1) is reached"));
  // The place of one that is killed is free.
  pending.signal(SIGKILL);
  EXPECT_EQ(pending.wait().status, killed(SIGKILL));
  Call next(debounced, "next");
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(first.end().status, exited(0));
  EXPECT_EQ(next.says(), "next");
  // It runs: what happens now will need another run.
  Call last(debounced, "last");
  ASSERT_TRUE(has_waiters(1));
  EXPECT_EQ(next.end().status, exited(0));
  EXPECT_EQ(last.says(), "last");
  EXPECT_EQ(last.end().status, exited(0));
}

// The waiters share the descriptor with one another and with the shell.
TEST_F(Queues, TheLimitHoldsForADescriptor)
{
  const int fd = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  ASSERT_GE(fd, 0);
  Start start;
  start.descriptors[9] = fd;
  const Words one_at_most = {"--max-waiters", "1", "9"};
  HoldingProcess holder(lock);
  Process killed_one(lockrun_argv(one_at_most), start);
  ASSERT_TRUE(has_waiters(1));
  const Finished refused = run_lockrun(Words{"-w", "20"} + one_at_most, start);
  EXPECT_EQ(refused.status, exited(75));
  EXPECT_THAT(refused.err, HasSubstr("the limit of waiters (1) is reached"));
  killed_one.signal(SIGKILL);
  EXPECT_EQ(killed_one.wait().status, killed(SIGKILL));
  Process waiter(lockrun_argv(one_at_most), start);
  ASSERT_TRUE(has_waiters(1));
  holder.release();
  EXPECT_EQ(waiter.wait().status, exited(0));
  ::close(fd);
}

// Makes `file` the one that has the users' names, for this process only.
bool become_list_of_users(const std::string& file)
{
  return ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount(file.c_str(), "/etc/passwd", nullptr, MS_BIND, nullptr) == 0;
}

// It would be lost if anything closed the file, and the line names a user.
TEST_F(Queues, ALineAboutTheWaitDoesNotCostThePlace)
{
  write_file(lock, "root:x:0:0::/:/bin/sh\n");
  if (Forked([&] { return become_list_of_users(lock) ? 0 : 1; }).wait() != exited(0)) {
    GTEST_SKIP() << "may not mount anything";
  }
  Start start;
  start.err = k_pipe;
  start.before_exec = {[this] { (void)become_list_of_users(lock); }};
  HoldingProcess holder(lock);
  for (const char* const option : {"--fair", "--max-waiters=1"}) {
    bool names_holder = false; // not while others of this machine look who holds their locks
    while (!names_holder) {
      Process waiter(lockrun_argv({option, "/etc/passwd", "true"}), start);
      const std::string line = waiter.err_line().value_or("");
      EXPECT_EQ(places(), std::vector<pid_t>{waiter.pid()});
      waiter.signal(SIGTERM);
      ASSERT_EQ(waiter.wait().status, killed(SIGTERM)) << line;
      names_holder = line.find("waiting for '/etc/passwd', held by PID ") != std::string::npos;
    }
  }
}

// --- where there can be none ---

// A stand-in: strace changes the file system's number to that of NFS in the answer of fstatfs(2), on this machine's
// byte order.
// A command may have given up the right to write to the file.
TEST_F(Queues, TheCommandGetsNoDescriptorForWriting)
{
  const std::string show = "for fd in /proc/$$/fd/*; do "
                           "if [ \"$(readlink $fd)\" = \"$0\" ]; then ls -l $fd | cut -c1-4; fi; done";
  for (const Words& options : {Words{"--fair"}, {"--max-waiters", "3"}, {"--fair", "-s"}, {"--fair", "--fcntl", "-s"},
         {"--fair", "--max-waiters", "3"}, {"--fair", "--also", dir / "another"}}) {
    for (const bool has_waited : {false, true}) {
      std::optional<HoldingProcess> holder;
      if (has_waited) { holder.emplace(lock); }
      Process call(lockrun_argv(options + Words{lock, "sh", "-c", show, lock}));
      if (holder) {
        const bool asks_for_another_kind = std::count(options.begin(), options.end(), "--fcntl") > 0;
        ASSERT_TRUE(asks_for_another_kind || has_waiters(1));
        holder->release();
      }
      const Finished ended = call.wait();
      EXPECT_EQ(ended.status, exited(0)) << ended.err;
      EXPECT_EQ(ended.out, "lr-x\n") << ::testing::PrintToString(options);
    }
  }
}

TEST_F(Queues, AFileThatMayNotBeWrittenHasNoQueueAlsoWhenItIsFree)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  write_file(lock, "", 0644);
  Start start;
  start.before_exec = {hostile::become_user(k_nobody)};
  for (const char* const option : {"--fair", "--max-waiters=1", "--slots=2"}) {
    const auto ended = run_lockrun({option, lock, "true"}, start);
    EXPECT_EQ(ended.status, exited(77));
    EXPECT_THAT(ended.err, HasSubstr("need a file that this user may write to"));
  }
}

TEST_F(Queues, AFileSystemOnWhichTheLocksSeeEachOtherIsRefused)
{
  if (!can_trace()) { GTEST_SKIP() << "strace cannot trace here"; }
  const Words nfs = {"-e", "trace=fstatfs,flock,fcntl", "-e", "inject=fstatfs:poke_exit=@arg2=6969000000000000"};
  for (const Words& options : {Words{"--fair"}, Words{"-j2"}, Words{"--max-waiters=1"}}) {
    const Finished told = run_program(traced(dir / "trace", nfs, options + Words{lock, "echo", "ran"}));
    EXPECT_EQ(told.status, exited(69));
    EXPECT_EQ(told.out, "");
    EXPECT_THAT(told.err, HasSubstr("(EOPNOTSUPP)"));
    EXPECT_THAT(told.err, HasSubstr("lockrun: hint: on this file system flock(2) and fcntl(2) locks see each other"));
    EXPECT_THAT(read_file(dir / "trace"), Not(HasSubstr("LOCK_EX")));
    EXPECT_THAT(read_file(dir / "trace"), Not(HasSubstr("SETLK")));
  }
  EXPECT_EQ(run_program(traced(dir / "trace", nfs, {lock, "true"})).status, exited(0));
}

TEST_F(Queues, ADirectoryHasNoBytesToQueueIn)
{
  for (const char* const option : {"--fair", "-j2", "--max-waiters=1"}) {
    const Finished told = run_lockrun({option, dir.path(), "true"});
    EXPECT_EQ(told.status, exited(77));
    EXPECT_THAT(told.err, HasSubstr("hint: --fair, --slots and --max-waiters need a regular file"));
  }
}

} // namespace
} // namespace lockrun::testing
