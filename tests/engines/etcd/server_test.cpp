// The engine program against a real server: it asks, waits, holds, loses and gives back.

#include "engines/etcd/etcd_fixture.hpp"
#include "support/engine_driver.hpp"
#include "support/etcd_servers.hpp"
#include "support/eventually.hpp"
#include "support/temp_dir.hpp"

#include "sys/clock.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr const char* k_loss = "its key was deleted, or its lease was revoked or has expired";

TEST_F(Etcd, IsToldWhatItCanDoBeforeItIsAskedForAnything)
{
  EngineDriver driver = engine_at("etcd://127.0.0.1:1/lock");
  const Message hello = driver.hear("ENGINE");
  EXPECT_EQ(number(hello, "version"), 1);
  EXPECT_EQ(text(hello, "name"), "etcd");
  EXPECT_EQ(text(hello, "can"), "shared,slots,max_waiters,fair,status");
}

TEST_F(Etcd, HoldsAKeyAndLeavesNothingBehind)
{
  EngineDriver driver = engine();
  driver.acquire();
  const auto before = sys::elapsed_now();
  const Message held = driver.hear("HELD");
  EXPECT_GT(number(held, "token"), 0);
  EXPECT_EQ(number(held, "ttl_ms"), 30'000);
  EXPECT_LE(
    number(held, "deadline"), (sys::elapsed_now() + std::chrono::milliseconds(29'700)) / std::chrono::milliseconds(1));
  EXPECT_GT(number(held, "deadline"), before / std::chrono::milliseconds(1) + 20'000);
  EXPECT_THAT(etcd->keys("lock/"), ElementsAre(text(held, "key")));
  EXPECT_THAT(etcd->leases(), SizeIs(1));

  release(driver);

  EXPECT_THAT(etcd->keys(""), ElementsAre("lockrun-epoch")); // that of the cluster
  EXPECT_THAT(etcd->leases(), IsEmpty());
}

TEST_F(Etcd, GivesEveryLaterHolderAGreaterToken)
{
  std::int64_t last = 0;
  for (int i = 0; i < 3; ++i) {
    EngineDriver driver = engine();
    driver.acquire();
    const std::int64_t token = number(driver.hear("HELD"), "token");
    EXPECT_GT(token, last);
    last = token;
    release(driver);
  }
}

TEST_F(Etcd, ServesThoseWhoWaitInTheirOrder)
{
  EngineDriver first = holder();
  std::vector<EngineDriver> waiters;
  for (int i = 1; i <= 3; ++i) {
    waiters.push_back(engine());
    waiters.back().acquire();
    const Message waiting = waiters.back().hear("WAITING");
    EXPECT_EQ(number(waiting, "position"), i);
    EXPECT_EQ(text(waiting, "holder"), "PID " + std::to_string(::getpid()) + " (a test, user tester) on here");
    EXPECT_EQ(text(waiting, "holder_command"), "a test");
  }

  release(first);

  for (std::size_t i = 0; i < waiters.size(); ++i) {
    EXPECT_TRUE(waiters[i].hear("HELD").is("HELD"));
    for (std::size_t j = i + 1; j < waiters.size(); ++j) {
      while (waiters[j].has_said_something()) { EXPECT_TRUE(waiters[j].hear()->is("WAITING")); }
    }
    release(waiters[i]);
  }
}

TEST_F(Etcd, SharesAndExcludes)
{
  EngineDriver first = holder("mode=shared");
  EngineDriver second = holder("mode=shared");
  EngineDriver writer = waiter();
  EngineDriver late = waiter("mode=shared"); // not past the writer

  release(first);
  release(second);

  EXPECT_TRUE(writer.hear("HELD").is("HELD"));
  release(writer);
  EXPECT_TRUE(late.hear("HELD").is("HELD"));
}

// lockrun looks for its ancestors among those who hold it on its own host.
TEST_F(Etcd, TellsOfAllHoldersOnTheHostOfTheOneWhoWaits)
{
  EngineDriver first = holder("mode=shared instance=x/1/1");
  EngineDriver second = holder("mode=shared instance=x/1/2");
  EngineDriver slot = holder("slots=3");
  for (const std::string wishes : {"nonblock=1", "max_waiters=1", ""}) {
    SCOPED_TRACE(wishes);
    EngineDriver driver = engine();
    driver.acquire(wishes);
    const Message one = driver.hear("WAITING", "FAIL");
    const Message two = driver.hear("WAITING", "FAIL");
    const Message three = driver.hear("WAITING", "FAIL");
    EXPECT_EQ(text(one, "holder_instance"), "x/1/1");
    EXPECT_EQ(text(one, "holder_mode"), "shared");
    EXPECT_EQ(text(two, "holder_instance"), "x/1/2");
    EXPECT_EQ(text(three, "holder_mode"), "exclusive");
    EXPECT_EQ(number(three, "holder_slot"), 0);
  }
}

TEST_F(Etcd, GivesTheLowestFreeSlotInOrder)
{
  std::vector<EngineDriver> holders;
  for (int i = 0; i < 3; ++i) {
    holders.push_back(engine());
    holders.back().acquire("slots=3");
    EXPECT_EQ(number(holders.back().hear("HELD"), "slot"), i);
  }
  EngineDriver next = waiter("slots=3");
  EngineDriver last = waiter("slots=3");

  release(holders[1]);
  EXPECT_EQ(number(next.hear("HELD"), "slot"), 1);
  release(holders[0]);
  EXPECT_EQ(number(last.hear("HELD"), "slot"), 0);

  EngineDriver everything = waiter();
  release(holders[2]);
  release(next);
  release(last);
  EXPECT_TRUE(everything.hear("HELD").is("HELD"));
}

TEST_F(Etcd, SaysBusyAndWritesNothing)
{
  EngineDriver first = holder();
  const Message busy = failure_of("nonblock=1");
  EXPECT_EQ(number(busy, "status"), 75);
  EXPECT_EQ(text(busy, "reason"), "busy");
  EXPECT_THAT(text(busy, "holder"), StartsWith("PID "));
  EXPECT_THAT(etcd->leases(), SizeIs(1));
}

TEST_F(Etcd, TakesWhatIsFreeWithoutWaiting)
{
  EngineDriver first = holder("nonblock=1");
  release(first);
  EngineDriver second = holder("nonblock=1 mode=shared");
  EngineDriver third = holder("nonblock=1 mode=shared");
}

TEST_F(Etcd, GivesUpInTimeAndLeavesTheQueue)
{
  EngineDriver first = holder();
  const auto before = sys::elapsed_now();
  const Message failure = failure_of("wait_ms=2000");
  EXPECT_GE(sys::elapsed_now() - before, std::chrono::seconds(2));
  EXPECT_EQ(number(failure, "status"), 75);
  EXPECT_EQ(text(failure, "reason"), "timed_out");
  EXPECT_THAT(text(failure, "holder"), StartsWith("PID "));
  EXPECT_THAT(etcd->keys("lock/"), SizeIs(1));
}

TEST_F(Etcd, LetsOnlySoManyWait)
{
  EngineDriver first = holder("max_waiters=1");
  EngineDriver uncounted = waiter();
  EngineDriver second = waiter("max_waiters=1");
  const Message failure = failure_of("max_waiters=1");
  EXPECT_EQ(number(failure, "status"), 75);
  EXPECT_EQ(text(failure, "reason"), "too_many_waiters");

  second.hang_up();
  ASSERT_TRUE(eventually([&] { return etcd->keys("lock/").size() == 2; }));
  EngineDriver third = waiter("max_waiters=1");
}

TEST_F(Etcd, TellsWhoHoldsAndWhoWaits)
{
  EngineDriver first = holder("mode=shared");
  EngineDriver second = waiter();
  EngineDriver asked = engine();
  asked.say("STATUS");
  const Message held = asked.hear("HOLDER", "WAITER");
  EXPECT_EQ(held.verb(), "HOLDER");
  EXPECT_EQ(text(held, "mode"), "shared");
  EXPECT_EQ(text(held, "host"), "here");
  EXPECT_EQ(text(held, "command"), "a test");
  EXPECT_EQ(number(held, "since_ms"), 1'700'000'000'000);
  const Message waiting = asked.hear("HOLDER", "WAITER");
  EXPECT_EQ(waiting.verb(), "WAITER");
  EXPECT_EQ(number(waiting, "position"), 1);
  EXPECT_GT(number(waiting, "token"), number(held, "token"));
  EXPECT_TRUE(asked.hear()->is("END"));
  EXPECT_EQ(asked.wait(), exited(0));
}

TEST_F(Etcd, LeavesTheQueueWithLockrun)
{
  EngineDriver first = holder();
  EngineDriver gone = waiter();
  EngineDriver abandoned = waiter();
  EngineDriver next = waiter();
  ASSERT_THAT(etcd->keys("lock/"), SizeIs(4));

  gone.hang_up();
  EXPECT_EQ(gone.wait(), exited(0));
  abandoned.say("ABANDON");
  EXPECT_EQ(abandoned.wait(), exited(0));

  EXPECT_THAT(etcd->keys("lock/"), SizeIs(2));
  release(first);
  EXPECT_TRUE(next.hear("HELD").is("HELD"));
}

// Something may still run under the lock: only the end of the lease may let others in.
TEST_F(Etcd, LetsTheLeaseRunOutWhenLockrunIsGone)
{
  EngineDriver gone = holder("ttl_ms=6000");
  EngineDriver next = waiter();
  gone.hang_up();
  EXPECT_EQ(gone.wait(), exited(0));
  EXPECT_THAT(etcd->keys("lock/"), SizeIs(2));
  EXPECT_FALSE(next.has_said_something());
  EXPECT_TRUE(next.hear("HELD").is("HELD"));

  EngineDriver abandoned = holder({}, "other");
  abandoned.say("ABANDON");
  EXPECT_EQ(abandoned.wait(), exited(0));
  EXPECT_THAT(etcd->keys("other/"), SizeIs(1));
}

TEST_F(Etcd, SaysAtOnceThatTheKeyIsGone)
{
  EngineDriver driver = engine();
  driver.acquire();
  const std::string key = text(driver.hear("HELD"), "key");
  const auto deletion = sys::elapsed_now() / std::chrono::milliseconds(1);
  ASSERT_EQ(etcd->etcdctl({"del", key}).status, exited(0));
  const Message lost = driver.hear("LOST", "RENEWED");
  EXPECT_EQ(text(lost, "reason"), k_loss);
  EXPECT_GT(number(lost, "deadline"), 0);
  EXPECT_LE(number(lost, "deadline"), deletion); // another one may hold it since then
  release(driver);
  EXPECT_THAT(etcd->leases(), IsEmpty());
}

TEST_F(Etcd, SaysAtOnceThatTheLeaseIsRevoked)
{
  EngineDriver driver = holder();
  ASSERT_EQ(etcd->etcdctl({"lease", "revoke", etcd->leases().at(0)}).status, exited(0));
  EXPECT_EQ(text(driver.hear("LOST", "RENEWED"), "reason"), k_loss);
  release(driver);
}

TEST_F(Etcd, TakesAnotherPlaceWhenItsOwnIsLost)
{
  EngineDriver first = holder();
  const auto held = etcd->keys("lock/");
  const auto kept = etcd->leases();
  EngineDriver second = waiter("ttl_ms=6000");
  const auto others = [&] {
    auto keys = etcd->keys("lock/");
    std::erase(keys, held.at(0));
    return keys;
  };
  ASSERT_TRUE(eventually([&] { // its lease changes, too
    for (const std::string& lease : etcd->leases()) {
      if (lease != kept.at(0)) { (void)etcd->etcdctl({"lease", "revoke", lease}); }
    }
    return others().empty();
  }));
  ASSERT_TRUE(eventually([&] { return others().size() == 1; }));
  ASSERT_EQ(etcd->etcdctl({"del", others().at(0)}).out, "1\n");
  ASSERT_TRUE(eventually([&] { return others().size() == 1; }));
  release(first);
  EXPECT_TRUE(second.hear("HELD").is("HELD"));
}

TEST_F(Etcd, RenewsInTime)
{
  EngineDriver driver = engine();
  driver.acquire("ttl_ms=6000");
  std::int64_t deadline = number(driver.hear("HELD"), "deadline");
  for (int i = 0; i < 4; ++i) {
    const Message renewed = driver.hear("RENEWED", "LOST"); // lost, if it came too late
    ASSERT_EQ(renewed.verb(), "RENEWED");
    EXPECT_GT(number(renewed, "deadline"), deadline);
    deadline = number(renewed, "deadline");
  }
  EXPECT_THAT(etcd->keys("lock/"), SizeIs(1));
}

TEST_F(Etcd, RenewsAfterAWaitBeforeItHolds)
{
  EngineDriver first = holder();
  EngineDriver second = waiter();
  const auto before = sys::elapsed_now() / std::chrono::milliseconds(1);
  release(first);
  EXPECT_GE(number(second.hear("HELD"), "deadline"), before + 29'700);
}

TEST_F(Etcd, RidesOutAServerThatIsAwayForAWhile)
{
  EngineDriver driver = holder("ttl_ms=30000");
  etcd->kill(0);
  const Message trouble = driver.hear("TROUBLE", "LOST");
  EXPECT_EQ(trouble.verb(), "TROUBLE");
  EXPECT_THAT(text(trouble, "text"), HasSubstr(etcd->endpoint(0) + ": Connection refused (ECONNREFUSED)"));
  etcd->start(0);
  EXPECT_EQ(driver.hear("RENEWED", "LOST").verb(), "RENEWED");
  release(driver);
  EXPECT_THAT(etcd->leases(), IsEmpty());
}

// Sockets of the engine besides the one on which it talks to lockrun: the connection for its requests and its watches.
int connections_of(pid_t pid)
{
  int count = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
    const bool is_standard = entry.path().filename().string().size() == 1 && entry.path().filename() < "3";
    const auto target = std::filesystem::read_symlink(entry.path(), error).string();
    count += !is_standard && target.starts_with("socket:") ? 1 : 0;
  }
  return count;
}

TEST_F(Etcd, SaysAtOnceThatTheKeyIsGoneAlsoAfterARestartOfTheServer)
{
  EngineDriver driver = engine();
  driver.acquire("ttl_ms=600000"); // renewed each 200 s
  const std::string key = text(driver.hear("HELD"), "key");
  ASSERT_TRUE(eventually([&] { return connections_of(driver.pid()) == 2; }));
  etcd->kill(0);
  ASSERT_EQ(driver.hear("TROUBLE", "LOST").verb(), "TROUBLE");
  etcd->start(0);
  ASSERT_EQ(driver.hear("RENEWED", "LOST").verb(), "RENEWED");
  ASSERT_TRUE(eventually([&] { return connections_of(driver.pid()) == 2; }));
  ASSERT_EQ(etcd->etcdctl({"del", key}).status, exited(0));
  EXPECT_EQ(driver.hear("LOST", "RENEWED").verb(), "LOST");
}

TEST_F(Etcd, SaysThatItIsLostWhenTheLeaseHasEnded)
{
  EngineDriver driver = engine();
  driver.acquire("ttl_ms=2000");
  std::int64_t deadline = number(driver.hear("HELD"), "deadline");
  etcd->signal(0, SIGSTOP);
  Message said = driver.hear("LOST", "RENEWED");
  for (; said.is("RENEWED"); said = driver.hear("LOST", "RENEWED")) { // that was on its way
    deadline = number(said, "deadline");
  }
  EXPECT_EQ(said.verb(), "LOST");
  EXPECT_GE(sys::elapsed_now() / std::chrono::milliseconds(1), deadline);
}

TEST_F(Etcd, RevivesNothingAfterItWasStopped)
{
  EngineDriver driver = engine();
  driver.acquire("ttl_ms=2000");
  ASSERT_TRUE(driver.hear("HELD").is("HELD"));
  EngineDriver next = waiter();
  driver.signal(SIGSTOP);
  EXPECT_TRUE(next.hear("HELD").is("HELD"));
  driver.signal(SIGCONT);
  EXPECT_EQ(driver.hear("LOST").verb(), "LOST");
}

TEST_F(Etcd, ExcludesEtcdctlAndIsExcludedByIt)
{
  Start start;
  start.out = k_pipe;
  EngineDriver first = holder();
  Process etcdctl(etcd->etcdctl_argv({"lock", "lock"}), start);
  ASSERT_TRUE(eventually([&] { return etcd->keys("lock/").size() == 2; }));
  EngineDriver busy = engine();
  EngineDriver second = waiter();

  release(first);
  const auto line = etcdctl.out_line(); // its key, once it has the lock
  EXPECT_THAT(line.value_or(""), StartsWith("lock/"));
  EXPECT_EQ(text(failure_of("nonblock=1"), "holder"), "somebody who left no name (key " + line.value_or("") + ")");
  EXPECT_FALSE(second.has_said_something() && second.hear("HELD").is("HELD"));

  etcdctl.signal(SIGINT);
  EXPECT_TRUE(second.hear("HELD").is("HELD"));
}

// As the manual shows it: what is written to etcd can be tied to the lock.
TEST_F(Etcd, LetsTheCommandGuardItsWrites)
{
  const auto write = [&](const Message& held, const std::string& value) {
    const std::string script =
      "create(\"" + text(held, "key") + "\") = \"" + text(held, "token") + "\"\n\nput config " + value + "\n\n\n";
    Start start;
    start.in = to_file(write_file(etcd->directory() / "txn", script));
    return run_program(etcd->etcdctl_argv({"txn"}), start).out.substr(0, 7);
  };
  EngineDriver first = engine();
  first.acquire();
  const Message held = first.hear("HELD");
  EXPECT_EQ(write(held, "one"), "SUCCESS");
  ASSERT_EQ(etcd->etcdctl({"lease", "revoke", etcd->leases().at(0)}).status, exited(0));
  EngineDriver second = engine();
  second.acquire();
  const Message held_next = second.hear("HELD");
  EXPECT_EQ(write(held_next, "two"), "SUCCESS");
  EXPECT_EQ(write(held, "stale"), "FAILURE");
  EXPECT_EQ(etcd->etcdctl({"get", "--print-value-only", "config"}).out, "two\n");
}

} // namespace
} // namespace lockrun::testing
