#include "support/engine_driver.hpp"
#include "support/etcd_proxy.hpp"
#include "support/etcd_servers.hpp"
#include "support/eventually.hpp"
#include "support/scripted_server.hpp"

#include "engines/etcd/json.hpp"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
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

// Its requests are still under way on a connection that nobody waits for any more, when it gives back what it has.
class EtcdBehindALateProxy : public EtcdBehindAProxy {
protected:
  void SetUp() override
  {
    EtcdBehindAProxy::SetUp();
    if (IsSkipped()) { return; }
    const auto judge = [this](const Request& request) {
      return request.path == k_grant && grants++ < held_back ? Fate::hold_back : Fate::pass;
    };
    for (auto& proxy : proxies) { proxy.emplace(etcd->endpoint(0), judge); }
  }

  int held() const { return proxies[0]->held_back() + proxies[1]->held_back(); }
  void let_go()
  {
    EXPECT_GT(held(), 0);
    for (auto& proxy : proxies) { proxy->let_go(); }
    EXPECT_TRUE(eventually([&] { return held() == 0; }));
  }
  void expect_nothing() const
  {
    EXPECT_THAT(etcd->keys("lock/"), IsEmpty());
    EXPECT_THAT(etcd->leases(), IsEmpty());
  }
  std::string both() const { return "etcd://" + proxies[0]->endpoint() + "," + proxies[1]->endpoint() + "/lock"; }

  std::atomic<int> grants{0};
  std::atomic<int> held_back{1};
  std::optional<EtcdProxy> proxies[2];
};

TEST_F(EtcdBehindALateProxy, LeavesNothingThoughATryComesAfterTheRelease)
{
  EngineDriver driver = holder(proxies[0]->url("lock"), "");
  release(driver);
  let_go();
  expect_nothing();
}

TEST_F(EtcdBehindALateProxy, LeavesNothingThoughATryAtAnotherEndpointComesAfterTheRelease)
{
  EngineDriver driver = holder(both(), "slots=2");
  release(driver);
  let_go();
  expect_nothing();
}

TEST_F(EtcdBehindALateProxy, LeavesNothingWhenItIsInterruptedWhileItAsks)
{
  held_back = 1'000;
  EngineDriver driver = engine_at(proxies[0]->url("lock"));
  driver.acquire();
  ASSERT_TRUE(eventually([&] { return held() > 0; }));
  release(driver);
  let_go();
  expect_nothing();
}

TEST_F(EtcdBehindALateProxy, LeavesNothingWhenTheTimeIsUpWhileItAsks)
{
  held_back = 1'000;
  EngineDriver driver = engine_at(both());
  driver.acquire("wait_ms=1500");
  EXPECT_TRUE(driver.hear("FAIL", "HELD").is("FAIL"));
  EXPECT_EQ(driver.wait(), exited(0));
  let_go();
  expect_nothing();
}

// Its own old key, come late, is not what others have to wait for.
TEST_F(EtcdBehindALateProxy, LeavesNothingOfAPlaceThatItHasLost)
{
  Message held_by_first;
  EngineDriver first = holder(etcd->url("lock"), "", &held_by_first);
  EngineDriver waiter = engine_at(proxies[0]->url("lock"));
  waiter.acquire("ttl_ms=6000");
  ASSERT_TRUE(waiter.hear("WAITING", "FAIL").is("WAITING"));
  const auto keys = etcd->keys("lock/");
  for (const std::string& lease : etcd->leases()) {
    const bool is_of_first = std::stoll(lease, nullptr, 16) == lease_of(text(held_by_first, "key"));
    if (!is_of_first) { ASSERT_EQ(etcd->etcdctl({"lease", "revoke", lease}).status, exited(0)); }
  }
  ASSERT_TRUE(eventually([&] { return etcd->keys("lock/").size() == 2 && etcd->keys("lock/") != keys; }));
  ASSERT_TRUE(eventually([&] { return proxies[0]->count("/v3/lease/revoke") > 0; }));
  let_go();
  EXPECT_THAT(etcd->keys("lock/"), SizeIs(2));
  EXPECT_THAT(etcd->leases(), SizeIs(2));
  release(first);
  EXPECT_TRUE(waiter.hear("HELD", "FAIL").is("HELD"));
  release(waiter);
  expect_nothing();
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

// Endpoints of two clusters: each of them knows nothing of what is held in the other.
class EtcdClusters : public EtcdBehindAProxy {
protected:
  void SetUp() override
  {
    EtcdBehindAProxy::SetUp();
    if (!IsSkipped()) { other.emplace(); }
  }
  std::string url(const std::string& one, const std::string& two) const
  {
    return "etcd://" + one + "," + two + "/lock";
  }
  static std::string id(const EtcdServers& servers)
  {
    const auto answer =
      engines::etcd::parse_json(servers.etcdctl({"endpoint", "status", "-w", "json"}).out).value_or(Json());
    const Json& status = engines::etcd::field(answer.empty() ? answer : answer.front(), "Status");
    const Json& cluster = engines::etcd::field(engines::etcd::field(status, "header"), "cluster_id");
    return cluster.is_number() ? fmt::format("{:x}", cluster.get<std::uint64_t>()) : std::string("unknown");
  }
  void expect_nothing() const
  {
    for (const EtcdServers* servers : {&*etcd, &*other}) {
      EXPECT_THAT(servers->keys("lock/"), IsEmpty());
      EXPECT_THAT(servers->leases(), IsEmpty());
    }
  }
  std::optional<EtcdServers> other;
};

TEST_F(EtcdClusters, AreToldApartBeforeTheLockIsHeld)
{
  const std::string text_of_both = "cannot use etcd: the endpoints belong to different clusters: " + etcd->endpoint(0) +
                                   " to " + id(*etcd) + ", " + other->endpoint(0) + " to " + id(*other);
  for (const std::string wishes : {"", "", "", "nonblock=1", "slots=2", "mode=shared", "max_waiters=2"}) {
    EngineDriver driver = engine_at(url(etcd->endpoint(0), other->endpoint(0)));
    driver.acquire(wishes);
    const Message failure = driver.hear("FAIL", "HELD");
    ASSERT_TRUE(failure.is("FAIL")) << format(failure);
    EXPECT_EQ(failure.number("status"), 78);
    EXPECT_EQ(text(failure, "text"), text_of_both);
    EXPECT_THAT(text(failure, "hint"), HasSubstr("members of one cluster"));
    EXPECT_EQ(driver.wait(), exited(0));
    expect_nothing();
  }
  EngineDriver driver = engine_at(url(etcd->endpoint(0), other->endpoint(0)));
  driver.say("STATUS");
  EXPECT_EQ(text(driver.hear("FAIL", "END"), "text"), text_of_both);
}

// One that the slow cluster answers first has heard the fast one by then: so nobody ever holds it in the slow one.
TEST_F(EtcdClusters, NobodyHoldsItInTheOneThatIsSlow)
{
  const SlowProxy slow(other->endpoint(0), milliseconds(400));
  for (int i = 0; i < 6; ++i) {
    EngineDriver driver = engine_at(url(etcd->endpoint(0), slow.endpoint()));
    driver.acquire();
    const Message said = driver.hear("FAIL", "HELD");
    if (said.is("HELD")) {
      EXPECT_THAT(etcd->keys("lock/"), ElementsAre(text(said, "key")));
      release(driver);
    } else {
      EXPECT_EQ(said.number("status"), 78) << format(said);
    }
  }
}

TEST_F(EtcdClusters, OneThatIsAwayDelaysNothingAndIsRefusedWhenItIsNeeded)
{
  other->kill(0);
  const SilentAddress silent;
  EngineDriver driver =
    holder("etcd://" + etcd->endpoint(0) + "," + other->endpoint(0) + "," + silent.endpoint() + "/lock", "ttl_ms=4000");
  other->start(0);
  etcd->kill(0);
  const Message said = driver.hear("TROUBLE", "LOST");
  EXPECT_THAT(
    text(said, "text"), HasSubstr(other->endpoint(0) + ": it belongs to another cluster than the server that"));
  EXPECT_TRUE(driver.hear("LOST", "RENEWED").is("LOST"));
  EXPECT_THAT(other->keys("lock/"), IsEmpty());
}

// Its answer comes only when the command has started.
TEST_F(EtcdClusters, HolderKeepsToTheFirstOneAndSaysSo)
{
  std::atomic<bool> may_answer = false;
  const auto foreign = obliging_etcd();
  const ScriptedServer stranger([&](const ScriptedServer::Request& request, const Peer& peer) {
    if (eventually([&] { return may_answer.load(); })) { foreign(request, peer); }
  });
  EngineDriver driver = holder(url(etcd->endpoint(0), stranger.endpoint()), "ttl_ms=3000");
  may_answer = true;
  EXPECT_THAT(text(driver.hear("TROUBLE", "LOST"), "text"), HasSubstr(stranger.endpoint() + " to 7"));
  expect_renewals(driver, 3);
  release(driver);
  EXPECT_THAT(etcd->keys("lock/"), IsEmpty());
}

// … or while it waits: then it need not start.
TEST_F(EtcdClusters, WaiterIsRefusedWhenTheyAreToldApart)
{
  EngineDriver first = holder(etcd->url("lock"), "");
  std::atomic<bool> may_answer = false;
  const auto foreign = obliging_etcd();
  const ScriptedServer stranger([&](const ScriptedServer::Request& request, const Peer& peer) {
    if (eventually([&] { return may_answer.load(); })) { foreign(request, peer); }
  });
  EngineDriver waiter = engine_at(url(etcd->endpoint(0), stranger.endpoint()));
  waiter.acquire("ttl_ms=3000");
  ASSERT_TRUE(waiter.hear("WAITING", "FAIL").is("WAITING"));
  may_answer = true;
  const Message failure = waiter.hear("FAIL", "HELD");
  EXPECT_EQ(failure.number("status"), 78) << format(failure);
  EXPECT_EQ(waiter.wait(), exited(0));
  release(first);
  expect_nothing();
}

} // namespace
} // namespace lockrun::testing
