#include "support/engine_driver.hpp"
#include "support/etcd_proxy.hpp"
#include "support/etcd_servers.hpp"
#include "support/eventually.hpp"

#include "engines/etcd/json.hpp"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

// What the engine makes of a server whose answers get lost, come late or twice, and of one that has changed meanwhile.
namespace lockrun::testing {
namespace {

using engines::etcd::Json;
using protocol::Message;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using Fate = EtcdProxy::Fate;
using Request = EtcdProxy::Request;

constexpr const char* k_grant = "/v3/lease/grant";
constexpr const char* k_txn = "/v3/kv/txn";
constexpr const char* k_keepalive = "/v3/lease/keepalive";
constexpr const char* k_revoke = "/v3/lease/revoke";

std::string text(const Message& message, const char* key)
{
  return std::string(message.text(key).value_or(""));
}

milliseconds deadline(const Message& message)
{
  return milliseconds(message.number("deadline").value_or(0));
}

EngineDriver engine_at(const std::string& url)
{
  Start start;
  start.environment.try_emplace("ETCDCTL_USER", std::nullopt);
  return {LOCKRUN_ENGINE, url, start};
}

class EtcdBehindAProxy : public ::testing::Test {
protected:
  void SetUp() override
  {
    if (const auto reason = no_etcd()) { GTEST_SKIP() << *reason; }
    etcd.emplace(EtcdSetup{1, options(), false});
  }
  virtual std::vector<std::string> options() const { return {}; }

  // Holds it, behind the proxy.
  static EngineDriver holder(const std::string& url, const std::string& wishes, Message* held = nullptr)
  {
    EngineDriver driver = engine_at(url);
    driver.acquire(wishes);
    const Message said = driver.hear("HELD", "FAIL");
    EXPECT_TRUE(said.is("HELD")) << format(said);
    if (held != nullptr) { *held = said; }
    return driver;
  }

  static void expect_renewals(EngineDriver& driver, int times)
  {
    for (int i = 0; i < times; ++i) {
      const Message said = driver.hear("RENEWED", "LOST");
      ASSERT_TRUE(said.is("RENEWED")) << format(said);
    }
  }

  static void release(EngineDriver& driver)
  {
    driver.say("RELEASE");
    EXPECT_TRUE(driver.hear("RELEASED").is("RELEASED"));
    EXPECT_EQ(driver.wait(), exited(0));
  }

  // The lease that a key is on.
  std::int64_t lease_of(const std::string& key) const
  {
    const auto answer = engines::etcd::parse_json(etcd->etcdctl({"get", key, "-w", "json"}).out).value_or(Json());
    const Json& kvs = engines::etcd::field(answer, "kvs");
    return kvs.empty() ? 0 : engines::etcd::number(kvs.front(), "lease");
  }

  // Another leader is elected: the same one, in another term.
  void change_term()
  {
    etcd->kill(0);
    etcd->start(0);
  }

  std::optional<EtcdServers> etcd;
};

// Whatever happens to one request while the lock is taken.
struct JoinRow {
  const char* name;
  const char* path;
  Fate fate;
};
constexpr JoinRow k_joins[] = {
  {"grant_passes", k_grant, Fate::pass},
  {"grant_is_lost", k_grant, Fate::lose_request},
  {"grant_answer_is_lost", k_grant, Fate::lose_answer},
  {"grant_answer_never_comes", k_grant, Fate::swallow},
  {"grant_comes_late", k_grant, Fate::keep},
  {"grant_comes_twice", k_grant, Fate::twice},
  {"key_is_lost", k_txn, Fate::lose_request},
  {"key_answer_is_lost", k_txn, Fate::lose_answer},
  {"key_answer_never_comes", k_txn, Fate::swallow},
  {"key_comes_late", k_txn, Fate::keep},
  {"key_comes_twice", k_txn, Fate::twice},
  {"status_answer_never_comes", "/v3/maintenance/status", Fate::swallow},
  {"epoch_answer_never_comes", "/v3/kv/range", Fate::swallow},
};
void PrintTo(const JoinRow& row, std::ostream* out)
{
  *out << row.name;
}
class EtcdJoin : public EtcdBehindAProxy, public ::testing::WithParamInterface<JoinRow> {};

TEST_P(EtcdJoin, IsSureNoLongerThanSinceTheFirstSendingAndLeavesNothing)
{
  const JoinRow& row = GetParam();
  EtcdProxy proxy(etcd->endpoint(0),
    [&](const Request& request) { return request.path == row.path && request.number == 1 ? row.fate : Fate::pass; });
  for (const std::string wishes : {"ttl_ms=30000", "ttl_ms=30000 slots=2", "ttl_ms=30000 nonblock=1"}) {
    const bool is_struck = wishes == "ttl_ms=30000"; // the others see that all is well again
    Message held;
    EngineDriver driver = holder(proxy.url("lock"), wishes, &held);
    if (is_struck) { EXPECT_LE(deadline(held), proxy.first(k_grant) + milliseconds(29'700)); }
    EXPECT_THAT(etcd->keys("lock/"), ElementsAre(text(held, "key")));
    (void)proxy.deliver();
    EXPECT_THAT(etcd->keys("lock/"), ElementsAre(text(held, "key")));
    release(driver);
    EXPECT_THAT(etcd->keys("lock/"), IsEmpty());
    EXPECT_THAT(etcd->leases(), IsEmpty());
  }
}
INSTANTIATE_TEST_SUITE_P(Table, EtcdJoin, ::testing::ValuesIn(k_joins), [](const auto& row) { return row.param.name; });

// A write that got stuck is asked for after a later one has done the same.
TEST_F(EtcdBehindAProxy, IsNotMovedBackByAWriteThatWasStuck)
{
  std::atomic<int> stuck{0}; // the number of the transaction
  EtcdProxy proxy(etcd->endpoint(0),
    [&](const Request& request) { return request.path == k_txn && request.number == stuck ? Fate::keep : Fate::pass; });
  Message held;
  EngineDriver driver = holder(proxy.url("lock"), "ttl_ms=6000", &held);
  stuck = proxy.count(k_txn) + 1;
  change_term();
  expect_renewals(driver, 1);
  ASSERT_EQ(proxy.kept(), 1);
  const auto lease = lease_of(text(held, "key"));
  EXPECT_THAT(proxy.deliver(), ElementsAre(Not(HasSubstr("\"succeeded\":true"))));
  EXPECT_EQ(lease_of(text(held, "key")), lease);
  expect_renewals(driver, 4); // it outlives its lease
  release(driver);
  EXPECT_THAT(etcd->leases(), IsEmpty());
}

// A write whose repetition has got through arrives when the key is on another lease already: it would put it back on
// the old one, which is not renewed any more and could not be revoked.
class EtcdStuckWrite : public EtcdBehindAProxy, public ::testing::WithParamInterface<const char*> {};

TEST_P(EtcdStuckWrite, DoesNotPutTheKeyBackOnAFormerLease)
{
  const std::string wishes = GetParam();
  const std::string slots = wishes.find("slots") == std::string::npos ? "" : "slots=1";
  std::atomic<int> stuck{0};
  EtcdProxy proxy(etcd->endpoint(0), [&](const Request& request) {
    if (request.path == k_txn && request.number == stuck) { return Fate::keep; }
    return request.path == k_revoke ? Fate::lose_request : Fate::pass;
  });
  EngineDriver first = holder(etcd->url("lock"), slots);
  EngineDriver driver = engine_at(proxy.url("lock"));
  driver.acquire(wishes);
  ASSERT_TRUE(driver.hear("WAITING", "HELD").is("WAITING"));
  stuck = proxy.count(k_txn) + 1; // its claim to a slot, or what it notes once it holds the lock
  release(first);
  const Message held = driver.hear("HELD", "FAIL");
  ASSERT_TRUE(held.is("HELD")) << format(held);
  const std::string key = text(held, "key");
  ASSERT_TRUE(eventually([&] { return proxy.kept() == 1 && proxy.count(k_txn) > stuck; })); // and once more
  const auto former = lease_of(key);
  change_term();
  ASSERT_TRUE(eventually([&] {
    while (driver.has_said_something()) { EXPECT_FALSE(driver.hear()->is("LOST")); }
    return lease_of(key) != former;
  }));
  const auto lease = lease_of(key);
  EXPECT_THAT(proxy.deliver(), SizeIs(1));
  EXPECT_EQ(lease_of(key), lease);
  expect_renewals(driver, 4); // it outlives the former one
  EXPECT_THAT(etcd->keys("lock/"), ElementsAre(key));
}
INSTANTIATE_TEST_SUITE_P(Table, EtcdStuckWrite, ::testing::Values("ttl_ms=6000", "ttl_ms=6000 slots=1"),
  [](const auto& row) { return std::string(row.index == 0 ? "note" : "slot"); });

// … and one that comes before it: then the key is where that one puts it.
TEST_F(EtcdBehindAProxy, FindsItsKeyWhereAStuckWriteHasMovedIt)
{
  std::atomic<int> stuck{0};
  EtcdProxy proxy(etcd->endpoint(0),
    [&](const Request& request) { return request.path == k_txn && request.number == stuck ? Fate::keep : Fate::pass; });
  Message held;
  EngineDriver driver = holder(proxy.url("lock"), "ttl_ms=6000", &held);
  const auto before = lease_of(text(held, "key"));
  stuck = proxy.count(k_txn) + 1;
  change_term();
  ASSERT_TRUE(eventually([&] {
    while (driver.has_said_something()) { (void)driver.hear(); } // it renews nothing for one who does not listen
    return proxy.kept() == 1;
  }));
  EXPECT_THAT(proxy.deliver(), ElementsAre(HasSubstr("\"succeeded\":true")));
  EXPECT_NE(lease_of(text(held, "key")), before);
  expect_renewals(driver, 5);
  release(driver);
  EXPECT_THAT(etcd->leases(), IsEmpty());
}

// Somebody has put our key on a lease of his own, which nobody renews.
TEST_F(EtcdBehindAProxy, DoesNotCountARenewalOfALeaseThatItsKeyIsNotOn)
{
  Message held;
  EngineDriver driver = holder(etcd->url("lock"), "ttl_ms=6000", &held);
  const std::string granted = etcd->etcdctl({"lease", "grant", "10"}).out; // lease ID granted with TTL(10s)
  const std::string foreign = granted.substr(6, granted.find(' ', 6) - 6);
  ASSERT_EQ(etcd->etcdctl({"put", "--lease=" + foreign, text(held, "key"), ""}).status, exited(0));
  expect_renewals(driver, 1);
  EXPECT_NE(lease_of(text(held, "key")), std::stoll(foreign, nullptr, 16));
  expect_renewals(driver, 5); // it outlives that lease
  release(driver);
  EXPECT_THAT(etcd->keys("lock/"), IsEmpty());
}

TEST_F(EtcdBehindAProxy, WritesNothingToRenewInTheTermInWhichItsLeaseWasGranted)
{
  { // the key of the epoch is there
    EngineDriver first = holder(etcd->url("lock"), "");
    release(first);
  }
  EtcdProxy proxy(etcd->endpoint(0), [](const Request&) { return Fate::pass; });
  EngineDriver driver = holder(proxy.url("lock"), "ttl_ms=3000");
  EngineDriver next = engine_at(etcd->url("lock"));
  next.acquire("ttl_ms=3000");
  ASSERT_TRUE(next.hear("WAITING", "HELD").is("WAITING"));
  const auto leases = etcd->leases();
  expect_renewals(driver, 3);
  EXPECT_THAT(etcd->leases(), ::testing::UnorderedElementsAreArray(leases));
  release(driver);
  EXPECT_EQ(proxy.count(k_grant), 1);
  EXPECT_EQ(proxy.count(k_txn), 1);
  EXPECT_EQ(proxy.count("/v3/lease/revoke"), 1);
  EXPECT_TRUE(next.hear("HELD", "LOST").is("HELD"));
}

// Its renewals get through, and the answers do not: it is lost for us, and renewed for the server.
TEST_F(EtcdBehindAProxy, DoesNotWaitBehindItsOwnOldKey)
{
  for (const std::string wishes : {"ttl_ms=2000", "ttl_ms=2000 slots=1", "ttl_ms=2000 max_waiters=2"}) {
    SCOPED_TRACE(wishes);
    EngineDriver first = holder(etcd->url("lock"), wishes.find("slots") == std::string::npos ? "" : "slots=1");
    std::atomic<bool> is_slow{true};
    EtcdProxy proxy(etcd->endpoint(0),
      [&](const Request& request) { return request.path == k_keepalive && is_slow ? Fate::swallow : Fate::pass; });
    EngineDriver waiter = engine_at(proxy.url("lock"));
    waiter.acquire(wishes);
    ASSERT_TRUE(waiter.hear("WAITING", "FAIL").is("WAITING"));
    ASSERT_TRUE(waiter.hear("TROUBLE", "FAIL").is("TROUBLE"));
    const auto keys = etcd->keys("lock/");
    ASSERT_TRUE(eventually([&] { return proxy.count(k_grant) == 2 && etcd->keys("lock/") != keys; }));
    is_slow = false;
    EXPECT_THAT(etcd->keys("lock/"), SizeIs(2));
    release(first);
    EXPECT_TRUE(waiter.hear("HELD", "FAIL").is("HELD"));
    release(waiter);
    EXPECT_THAT(etcd->keys("lock/"), IsEmpty());
    EXPECT_TRUE(eventually([&] { return etcd->leases().empty(); }));
  }
}

class EtcdThatIsFull : public EtcdBehindAProxy {
protected:
  std::vector<std::string> options() const override { return {"--quota-backend-bytes=4194304"}; }

  void fill() const
  {
    for (int i = 0; i < 20; ++i) {
      Start start;
      start.in = to_file(block);
      if (run_program(etcd->etcdctl_argv({"put", "filler" + std::to_string(i)}), start).status != exited(0)) { return; }
    }
    FAIL() << "it takes whatever comes";
  }

  TempDir dir;
  std::filesystem::path block = write_file(dir / "block", std::string(500'000, 'x'));
};

TEST_F(EtcdThatIsFull, RenewsWhatItHas)
{
  EngineDriver driver = holder(etcd->url("lock"), "ttl_ms=9000");
  fill();
  EngineDriver late = engine_at(etcd->url("other"));
  late.acquire();
  EXPECT_THAT(text(late.hear("FAIL", "HELD"), "text"), HasSubstr("etcd refuses: etcdserver: mvcc: database space"));
  expect_renewals(driver, 2);
  change_term(); // there is no room for another lease: the old one has to do
  expect_renewals(driver, 4);
  release(driver);
  EXPECT_THAT(etcd->keys("lock/"), IsEmpty());
  EXPECT_THAT(etcd->leases(), IsEmpty());
}

class EtcdHistory : public EtcdBehindAProxy {
protected:
  // Takes it and gives it back.
  std::string epoch() const
  {
    Message held;
    EngineDriver driver = holder(etcd->url("lock"), "", &held);
    release(driver);
    return text(held, "epoch");
  }
};

TEST_F(EtcdHistory, StaysTheSameThroughRestartsAndElections)
{
  const std::string first = epoch();
  EXPECT_THAT(first, ::testing::MatchesRegex("[0-9a-f]+-[0-9a-f]+"));
  for (int i = 0; i < 3; ++i) { EXPECT_EQ(epoch(), first); }
  for (int i = 0; i < 20; ++i) { (void)etcd->etcdctl({"put", "config", std::to_string(i)}); }
  EXPECT_EQ(epoch(), first);
  change_term();
  EXPECT_EQ(epoch(), first);
  ASSERT_EQ(etcd->etcdctl({"compact", "10"}).status, exited(0));
  EXPECT_EQ(epoch(), first);
}

TEST_F(EtcdHistory, IsAnotherOneInAClusterThatWasEmptied)
{
  const std::string first = epoch();
  etcd->kill(0);
  etcd->empty(0);
  etcd->start(0);
  const std::string second = epoch();
  EXPECT_NE(second, "");
  EXPECT_NE(second, first);
}

// Of the same members and under the same token, so that its identifier and its term are the same.
TEST_F(EtcdHistory, IsAnotherOneInAClusterThatWasRestoredFromABackup)
{
  const std::string first = epoch();
  const std::string snapshot = (etcd->directory() / "snapshot").string();
  ASSERT_EQ(etcd->etcdctl({"snapshot", "save", snapshot}).status, exited(0));
  for (int i = 0; i < 3; ++i) { EXPECT_EQ(epoch(), first); }
  etcd->kill(0);
  etcd->restore(0, snapshot);
  etcd->start(0);
  const std::string second = epoch();
  EXPECT_NE(second, "");
  EXPECT_NE(second, first);
  EXPECT_EQ(epoch(), second);
}

TEST_F(EtcdHistory, IsNotThatOfAnotherCluster)
{
  EtcdServers other;
  EngineDriver driver = holder("etcd://" + etcd->endpoint(0) + "," + other.endpoint(0) + "/lock", "ttl_ms=4000");
  const bool is_first = etcd->keys("lock/").size() == 1; // any of them is asked first
  (is_first ? *etcd : other).kill(0);
  const EtcdServers& wrong = is_first ? other : *etcd;
  const Message said = driver.hear("TROUBLE", "LOST");
  EXPECT_THAT(
    text(said, "text"), HasSubstr(wrong.endpoint(0) + ": it belongs to another cluster than the server that"));
  EXPECT_THAT(text(driver.hear("LOST", "RENEWED"), "reason"), HasSubstr("another cluster"));
  EXPECT_THAT(wrong.keys("lock/"), IsEmpty());
}

} // namespace
} // namespace lockrun::testing
