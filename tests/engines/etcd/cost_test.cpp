#include "support/engine_driver.hpp"
#include "support/etcd_proxy.hpp"
#include "support/etcd_servers.hpp"
#include "support/eventually.hpp"
#include "support/scripted_server.hpp"

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

// How often the engine speaks to its server: that grows with what is done, not with how many wait.
namespace lockrun::testing {
namespace {

using protocol::Message;
using Fate = EtcdProxy::Fate;
using Request = EtcdProxy::Request;

constexpr const char* k_range = "/v3/kv/range";
constexpr const char* k_txn = "/v3/kv/txn";
constexpr const char* k_keepalive = "/v3/lease/keepalive";
constexpr const char* k_status = "/v3/maintenance/status"; // once for each place in the queue

class EtcdCost : public ::testing::Test {
protected:
  void SetUp() override
  {
    if (const auto reason = no_etcd()) { GTEST_SKIP() << *reason; }
    etcd.emplace();
    EngineDriver first = holder(etcd->url("lock")); // writes the epoch of the cluster
    release(first);
  }

  static EngineDriver engine_at(const std::string& url)
  {
    Start start;
    start.environment.try_emplace("ETCDCTL_USER", std::nullopt);
    return {LOCKRUN_ENGINE, url, start};
  }

  static EngineDriver holder(const std::string& url, const std::string& wishes = {})
  {
    EngineDriver driver = engine_at(url);
    driver.acquire(wishes);
    EXPECT_TRUE(driver.hear("HELD", "FAIL").is("HELD"));
    return driver;
  }

  static std::vector<EngineDriver> crowd_at(const std::string& url, int size, const std::string& wishes)
  {
    std::vector<EngineDriver> crowd;
    for (int i = 0; i < size; ++i) {
      crowd.push_back(engine_at(url));
      crowd.back().acquire(wishes);
    }
    return crowd;
  }

  static EngineDriver waiter(const std::string& url, const std::string& wishes)
  {
    EngineDriver driver = engine_at(url);
    driver.acquire(wishes);
    EXPECT_TRUE(driver.hear("WAITING", "FAIL").is("WAITING"));
    return driver;
  }

  static void release(EngineDriver& driver)
  {
    driver.say("RELEASE");
    EXPECT_TRUE(driver.hear("RELEASED").is("RELEASED"));
    EXPECT_EQ(driver.wait(), exited(0));
  }

  static Fate pass(const Request&) { return Fate::pass; }
  static bool await_renewals(const EtcdProxy& proxy, int count)
  {
    const int enough = proxy.count(k_keepalive) + count;
    return eventually([&] { return proxy.count(k_keepalive) >= enough; });
  }

  std::optional<EtcdServers> etcd;
};

TEST_F(EtcdCost, WaitersReadNothingToRenewWhileNothingHappens)
{
  EngineDriver first = holder(etcd->url("lock"));
  const EtcdProxy proxy(etcd->endpoint(0), pass);
  EngineDriver next = waiter(proxy.url("lock"), "ttl_ms=3000");
  EngineDriver last = waiter(proxy.url("lock"), "ttl_ms=3000");
  ASSERT_TRUE(await_renewals(proxy, 2)); // the last one's arrival is noticed
  const int ranges = proxy.count(k_range);
  const int transactions = proxy.count(k_txn);
  const int watches = proxy.count("/v3/watch");
  ASSERT_TRUE(await_renewals(proxy, 6));
  EXPECT_EQ(proxy.count(k_range), ranges);
  EXPECT_EQ(proxy.count(k_txn), transactions);
  EXPECT_EQ(proxy.count("/v3/watch"), watches);
  release(first);
  EXPECT_TRUE(next.hear("HELD", "FAIL").is("HELD"));
  release(next);
  EXPECT_TRUE(last.hear("HELD", "FAIL").is("HELD"));
}

TEST_F(EtcdCost, WaitersDoNotReadTheQueueBecauseOthersWriteSomethingElse)
{
  EngineDriver first = holder(etcd->url("lock"));
  const EtcdProxy proxy(etcd->endpoint(0), pass);
  EngineDriver next = waiter(proxy.url("lock"), "ttl_ms=3000");
  const int ranges = proxy.count(k_range);
  for (int i = 0; i < 4; ++i) {
    ASSERT_EQ(etcd->etcdctl({"put", "something", std::to_string(i)}).status, exited(0));
    ASSERT_TRUE(await_renewals(proxy, 1));
  }
  EXPECT_EQ(proxy.count(k_range), ranges);
}

// Their connection is dead, and nothing says so.
TEST_F(EtcdCost, WaitersGetTheirTurnThoughTheirWatchSaysNothing)
{
  EngineDriver first = holder(etcd->url("lock"));
  const EtcdProxy proxy(
    etcd->endpoint(0), [](const Request& request) { return request.path == "/v3/watch" ? Fate::keep : Fate::pass; });
  EngineDriver next = waiter(proxy.url("lock"), "ttl_ms=2000");
  release(first);
  EXPECT_TRUE(next.hear("HELD", "FAIL").is("HELD"));
}

TEST_F(EtcdCost, WaitersNoticeThatTheirKeyIsGoneThoughTheirWatchSaysNothing)
{
  EngineDriver first = holder(etcd->url("lock"));
  const auto held = etcd->keys("lock/");
  const EtcdProxy proxy(
    etcd->endpoint(0), [](const Request& request) { return request.path == "/v3/watch" ? Fate::keep : Fate::pass; });
  EngineDriver next = waiter(proxy.url("lock"), "ttl_ms=2000");
  for (const std::string& key : etcd->keys("lock/")) {
    if (key != held.at(0)) { ASSERT_EQ(etcd->etcdctl({"del", key}).out, "1\n"); }
  }
  EXPECT_TRUE(eventually([&] { return etcd->keys("lock/").size() == 2; })); // it has joined again
}

// In front of the last one the queue moves on, and it is told.
TEST_F(EtcdCost, WaitersNearTheFrontAreToldOfTheirPosition)
{
  EngineDriver first = holder(etcd->url("lock"));
  EngineDriver next = waiter(etcd->url("lock"), "");
  EngineDriver third = waiter(etcd->url("lock"), "");
  EngineDriver last = waiter(etcd->url("lock"), "ttl_ms=3000");
  release(first);
  EXPECT_TRUE(next.hear("HELD", "FAIL").is("HELD"));
  EXPECT_EQ(last.hear("WAITING", "HELD").number("position"), 2);
}

TEST_F(EtcdCost, FirstSlotTakesNoMoreThanALock)
{
  const EtcdProxy proxy(etcd->endpoint(0), pass);
  EngineDriver first = engine_at(proxy.url("lock"));
  first.acquire("slots=4");
  EXPECT_EQ(first.hear("HELD", "FAIL").number("slot"), 0);
  EXPECT_EQ(proxy.count(k_range), 1); // that of the epoch
  EXPECT_EQ(proxy.count(k_txn), 1);
}

TEST_F(EtcdCost, FurtherSlotsTakeOneTransactionMore)
{
  EngineDriver first = holder(etcd->url("lock"), "slots=4");
  const EtcdProxy proxy(etcd->endpoint(0), pass);
  EngineDriver second = engine_at(proxy.url("lock"));
  second.acquire("slots=4");
  EXPECT_EQ(second.hear("HELD", "FAIL").number("slot"), 1);
  EXPECT_EQ(proxy.count(k_range), 1);
  EXPECT_EQ(proxy.count(k_txn), 2);
}

// None of them asks again because another one has come in between.
TEST_F(EtcdCost, SlotsAreGivenToACrowdWithoutAContest)
{
  constexpr int k_crowd = 12;
  constexpr int k_slots = 3;
  const EtcdProxy proxy(etcd->endpoint(0), pass);
  std::vector<EngineDriver> crowd = crowd_at(proxy.url("lock"), k_crowd, "slots=3");
  for (EngineDriver& one : crowd) { EXPECT_NE(one.hear("HELD", "WAITING").verb(), ""); }
  ASSERT_TRUE(eventually([&] { return proxy.count(k_txn) >= k_crowd + k_slots - 1; }));
  EXPECT_EQ(proxy.count(k_txn), k_crowd + k_slots - 1); // the first one has its slot at once
}

TEST_F(EtcdCost, CrowdThatDoesNotWaitAsksOnce)
{
  constexpr int k_crowd = 12;
  constexpr int k_slots = 3;
  const EtcdProxy proxy(etcd->endpoint(0), pass);
  std::vector<EngineDriver> crowd = crowd_at(proxy.url("lock"), k_crowd, "slots=3 nonblock=1");
  int held = 0;
  for (EngineDriver& one : crowd) {
    const Message said = one.hear("HELD", "FAIL");
    held += said.is("HELD") ? 1 : 0;
    if (!said.is("HELD")) { EXPECT_EQ(said.text("reason"), "busy"); }
  }
  EXPECT_EQ(held, k_slots);
  EXPECT_LE(proxy.count(k_txn), k_crowd + k_slots - 1);
  EXPECT_LE(proxy.count(k_range), 2 * k_crowd + k_slots); // those of the epoch, too
}

// One that has come a moment before has no slot yet: there are others.
TEST_F(EtcdCost, CallerThatDoesNotWaitGetsWhatAnotherOneLeaves)
{
  const std::string without = R"({"lockrun":1,"mode":"exclusive","slots":4})";
  const std::string with = R"({"lockrun":1,"mode":"exclusive","slots":4,"slot":0})";
  ASSERT_EQ(etcd->etcdctl({"put", "lock/a1", without}).status, exited(0));
  EngineDriver driver = engine_at(etcd->url("lock"));
  driver.acquire("slots=4 nonblock=1");
  ASSERT_TRUE(driver.hear("WAITING", "FAIL").is("WAITING"));
  ASSERT_EQ(etcd->etcdctl({"put", "lock/a1", with}).status, exited(0));
  EXPECT_EQ(driver.hear("HELD", "FAIL").number("slot"), 1);
}

TEST_F(EtcdCost, CallerThatDoesNotWaitIsNotPromisedTheSlotOfAnotherOne)
{
  const std::string waits = R"({"lockrun":1,"mode":"exclusive","slots":4})";
  ASSERT_EQ(etcd->etcdctl({"put", "lock/a1", waits}).status, exited(0));
  EngineDriver driver = engine_at(etcd->url("lock"));
  driver.acquire("slots=1 nonblock=1");
  EXPECT_EQ(driver.hear("FAIL", "HELD").text("reason"), "busy");
}

// The one before it is dead: it does not choose.
TEST_F(EtcdCost, CallerThatDoesNotWaitGivesUpInTime)
{
  ASSERT_EQ(etcd->etcdctl({"put", "lock/a1", R"({"lockrun":1,"mode":"exclusive","slots":4})"}).status, exited(0));
  EngineDriver driver = engine_at(etcd->url("lock"));
  driver.acquire("slots=4 nonblock=1");
  EXPECT_EQ(driver.hear("FAIL", "HELD").text("reason"), "busy");
}

// Another caller comes just before it: what it must know is in the answer that says so.
TEST_F(EtcdCost, CallerThatDoesNotWaitLooksOnlyOnce)
{
  const EtcdProxy proxy(etcd->endpoint(0), [&](const Request& request) {
    if (request.path == k_txn && request.number == 1) {
      (void)etcd->etcdctl({"put", "lock/a1", R"({"lockrun":1,"mode":"exclusive","slots":4,"slot":0})"});
    }
    return Fate::pass;
  });
  EngineDriver driver = engine_at(proxy.url("lock"));
  driver.acquire("slots=4 nonblock=1");
  EXPECT_EQ(driver.hear("HELD", "FAIL").number("slot"), 1);
  EXPECT_EQ(proxy.count(k_range), 2); // that of the epoch, too
  EXPECT_EQ(proxy.count(k_txn), 2);
}

// Until it has lost its place and joins again.
TEST_F(EtcdCost, WaiterAsksLessAndLessOftenInAnOutage)
{
  EngineDriver first = holder(etcd->url("lock"));
  std::atomic<bool> is_away = false;
  const EtcdProxy proxy(etcd->endpoint(0), [&](const Request&) { return is_away ? Fate::lose_request : Fate::pass; });
  EngineDriver next = waiter(proxy.url("lock"), "ttl_ms=9000");
  is_away = true;
  ASSERT_TRUE(eventually([&] { return proxy.count(k_keepalive) > 0; }));
  ASSERT_TRUE(eventually([&] { return proxy.count(k_status) > 1; }));
  EXPECT_LT(proxy.count(k_keepalive), 30); // two for each pause: one may have found a connection that had been closed
}

class EtcdCostWithTls : public EtcdCost {
protected:
  void SetUp() override
  {
    if (const auto reason = no_etcd()) { GTEST_SKIP() << *reason; }
    etcd.emplace(EtcdSetup{1, {}, true});
  }

  std::string url_at(const std::string& endpoint) const
  {
    const std::string files = etcd->directory().string();
    return "etcd://" + endpoint + "/lock?cacert=" + files + "/ca.pem&cert=" + files + "/client.pem&key=" + files +
           "/client-key.pem";
  }
};

// Two, as long as it waits: what it listens on, and what it renews with.
TEST_F(EtcdCostWithTls, WaitersShakeHandsOnlyOnce)
{
  EngineDriver first = holder(url_at(etcd->endpoint(0)), "ttl_ms=3000");
  EngineDriver next = waiter(url_at(etcd->endpoint(0)), "");
  const SlowProxy proxy(etcd->endpoint(0), std::chrono::milliseconds(0));
  EngineDriver last = waiter(url_at(proxy.endpoint()), "ttl_ms=3000");
  ASSERT_TRUE(eventually([&] { return proxy.connections() == 2; }));
  for (int i = 0; i < 3; ++i) { ASSERT_TRUE(first.hear("RENEWED", "LOST").is("RENEWED")); } // as often as the last one
  EXPECT_EQ(proxy.connections(), 2);
}

TEST(EtcdCostOutage, CallerConnectsLessAndLessOften)
{
  const ScriptedServer server([](const auto&, const Peer& peer) { peer.answer(503, "away"); });
  Start start;
  start.environment.try_emplace("ETCDCTL_USER", std::nullopt);
  EngineDriver driver(LOCKRUN_ENGINE, "etcd://" + server.endpoint() + "/lock", start);
  driver.acquire();
  EXPECT_TRUE(driver.hear("FAIL", "HELD").is("FAIL"));
  EXPECT_LT(server.connections(), 25);
}

} // namespace
} // namespace lockrun::testing
