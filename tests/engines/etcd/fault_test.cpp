#include "support/engine_driver.hpp"
#include "support/etcd_servers.hpp"
#include "support/eventually.hpp"
#include "support/scripted_server.hpp"

#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

// The engine program against servers, proxies and names that are slow, broken or hostile.
namespace lockrun::testing {
namespace {

using protocol::Message;
using std::chrono::milliseconds;
using ::testing::Contains;
using ::testing::HasSubstr;

std::string text(const Message& message, const char* key)
{
  return std::string(message.text(key).value_or(""));
}

Start clean(Start start = {})
{
  start.environment.try_emplace("ETCDCTL_USER", std::nullopt);
  return start;
}

EngineDriver engine_at(const std::string& endpoints, Start start = {})
{
  return {LOCKRUN_ENGINE, "etcd://" + endpoints + "/lock", clean(std::move(start))};
}

Message answer_of(EngineDriver& driver, const std::string& wishes = {})
{
  driver.acquire(wishes);
  return driver.hear("HELD", "FAIL");
}

// In kilobytes.
long most_memory(pid_t pid)
{
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) { return std::stol(line.substr(6)); }
  }
  return -1;
}

class EtcdBehindProxy : public ::testing::Test {
protected:
  void SetUp() override
  {
    if (const auto reason = no_etcd()) { GTEST_SKIP() << *reason; }
    etcd.emplace();
  }
  std::optional<EtcdServers> etcd;
};

// Another try begins after a tenth of the time to live, which is less.
TEST_F(EtcdBehindProxy, RenewsThoughEachAnswerIsSlow)
{
  const SlowProxy proxy(etcd->endpoint(0), milliseconds(900));
  EngineDriver driver = engine_at(proxy.endpoint());
  ASSERT_EQ(answer_of(driver, "ttl_ms=6000").verb(), "HELD");
  for (int i = 0; i < 3; ++i) {
    const Message said = driver.hear("RENEWED", "LOST");
    ASSERT_EQ(said.verb(), "RENEWED") << text(said, "reason");
  }
}

TEST_F(EtcdBehindProxy, WaitsItsTurnThoughEachAnswerIsSlow)
{
  EngineDriver first = engine_at(etcd->endpoint(0));
  ASSERT_EQ(answer_of(first).verb(), "HELD");
  const SlowProxy proxy(etcd->endpoint(0), milliseconds(900));
  EngineDriver second = engine_at(proxy.endpoint());
  second.acquire("ttl_ms=6000");
  ASSERT_EQ(second.hear("WAITING", "FAIL").verb(), "WAITING");
  const auto keys = etcd->keys("lock/");
  EXPECT_EQ(keys.size(), 2U);
  first.say("RELEASE");
  const Message held = second.hear("HELD", "FAIL");
  EXPECT_EQ(held.verb(), "HELD");
  EXPECT_THAT(keys, Contains(text(held, "key"))); // it is the place that it had
}

// One that is not in the way of a waiter for long: its connection is not needed until the next renewal.
TEST_F(EtcdBehindProxy, KeepsOneConnectionWhileOthersAreBeforeIt)
{
  EngineDriver first = engine_at(etcd->endpoint(0));
  ASSERT_EQ(answer_of(first).verb(), "HELD");
  EngineDriver second = engine_at(etcd->endpoint(0));
  second.acquire();
  ASSERT_EQ(second.hear("WAITING", "HELD").verb(), "WAITING");
  EngineDriver third = engine_at(etcd->endpoint(0));
  third.acquire();
  ASSERT_EQ(third.hear("WAITING", "HELD").verb(), "WAITING");
  const auto sockets = [&](const EngineDriver& driver) {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(driver.pid()) + "/fd")) {
      if (entry.path().filename() == "0" || entry.path().filename() == "1" || entry.path().filename() == "2") {
        continue;
      }
      std::error_code error;
      count += std::filesystem::read_symlink(entry.path(), error).string().starts_with("socket:") ? 1 : 0;
    }
    return count;
  };
  EXPECT_TRUE(eventually([&] { return sockets(third) == 1; })) << sockets(third);
}

TEST(EtcdAddresses, SilentEndpointsDoNotDelayTheOthers)
{
  const SilentAddress one;
  const SilentAddress two;
  const ScriptedServer good(obliging_etcd());
  for (int i = 0; i < 4; ++i) {
    const auto began = std::chrono::steady_clock::now();
    EngineDriver driver = engine_at(one.endpoint() + "," + two.endpoint() + "," + good.endpoint());
    EXPECT_EQ(answer_of(driver).verb(), "HELD");
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(2)); // two of 250 ms
  }
}

TEST(EtcdAddresses, AreSpreadOverTheEndpoints)
{
  const ScriptedServer one(obliging_etcd());
  const ScriptedServer two(obliging_etcd());
  for (int i = 0; i < 30; ++i) { // that all of them choose the same: once in 2^29
    EngineDriver driver = engine_at(one.endpoint() + "," + two.endpoint());
    EXPECT_EQ(answer_of(driver).verb(), "HELD");
  }
  EXPECT_GT(one.connections(), 0);
  EXPECT_GT(two.connections(), 0);
}

// Which cluster it belongs to matters only beside another one.
TEST(EtcdAddresses, OneEndpointIsAskedNothingInAddition)
{
  std::atomic<int> asked = 0;
  const auto etcd = obliging_etcd();
  const auto counting = [&](const ScriptedServer::Request& request, const Peer& peer) {
    asked += request.path == "/v3/maintenance/status" ? 1 : 0;
    etcd(request, peer);
  };
  const ScriptedServer one(counting);
  EngineDriver driver = engine_at(one.endpoint());
  EXPECT_EQ(answer_of(driver).verb(), "HELD");
  EXPECT_EQ(asked, 1);
  const ScriptedServer two(counting);
  EngineDriver next = engine_at(one.endpoint() + "," + two.endpoint());
  EXPECT_EQ(answer_of(next).verb(), "HELD");
  EXPECT_EQ(asked, 3);
}

TEST(EtcdAddresses, NameIsNotLookedUpWithoutAThread)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "only root can become another user"; }
  Start start;
  start.before_exec = {hostile::limit(RLIMIT_NPROC, 0), hostile::become_user(k_nobody)};
  std::optional<EngineDriver> driver;
  try {
    driver.emplace(engine_at("etcd.test:2379", start));
  } catch (const std::exception& error) {
    GTEST_SKIP() << "the engine is where others cannot run it: " << error.what();
  }
  const Message failure = answer_of(*driver, "wait_ms=500");
  EXPECT_EQ(failure.verb(), "FAIL");
  EXPECT_THAT(text(failure, "text"), HasSubstr("cannot look up its name: Resource temporarily unavailable (EAGAIN)"));
}

struct ProxyRow {
  const char* name;
  int status;
};
constexpr ProxyRow k_passing[] = {
  {"too_many_requests", 429}, {"bad_gateway", 502}, {"unavailable", 503}, {"time_out", 504}};
class EtcdProxyTrouble : public ::testing::TestWithParam<ProxyRow> {};
TEST_P(EtcdProxyTrouble, IsRiddenOut)
{
  std::atomic<int> answers = 0;
  const auto etcd = obliging_etcd();
  const ScriptedServer server([&](const ScriptedServer::Request& request, const Peer& peer) {
    if (answers++ < 4) {
      peer.answer(GetParam().status, "<html>\r\nbusy\r\n");
    } else {
      etcd(request, peer);
    }
  });
  EngineDriver driver = engine_at(server.endpoint());
  EXPECT_EQ(answer_of(driver).verb(), "HELD");
}
INSTANTIATE_TEST_SUITE_P(
  Table, EtcdProxyTrouble, ::testing::ValuesIn(k_passing), [](const auto& row) { return row.param.name; });

TEST(EtcdStrangers, AreShownWithTheirFirstLine)
{
  const ScriptedServer server(
    [](const auto&, const Peer& peer) { peer.answer(403, "\n \nNo entry\x1b[31m here\nmore\n"); });
  EngineDriver driver = engine_at(server.endpoint());
  const Message failure = answer_of(driver);
  EXPECT_EQ(text(failure, "text"),
    "cannot talk to etcd: " + server.endpoint() + ": it is not etcd's HTTP gateway (status 403: No entry?[31m here)");
}

// As the gateways of etcd 3.4 and 3.5 and that of 3.6 write them.
TEST(EtcdStrangers, BothFormsOfErrorsAreRead)
{
  for (const std::string body :
    {R"({"error":"etcdserver: permission denied","message":"etcdserver: permission denied","code":7})",
      R"({"code":7,"message":"etcdserver: permission denied","details":[]})",
      R"({"error":{"grpc_code":7,"http_code":403,"message":"etcdserver: permission denied","http_status":"Forbidden"}})",
      R"({"error":{"code":7,"message":"etcdserver: permission denied","details":[]}})"}) {
    const ScriptedServer server([&](const auto&, const Peer& peer) { peer.answer(403, body); });
    EngineDriver driver = engine_at(server.endpoint());
    EXPECT_EQ(text(answer_of(driver), "text"), "etcd does not let us: etcdserver: permission denied") << body;
  }
}

// No more than 16 MB above what an engine takes whose server answers properly.
void expect_modest_memory(const EngineDriver& driver)
{
  if (is_sanitized(LOCKRUN_ENGINE)) { return; }
  const ScriptedServer good(obliging_etcd());
  EngineDriver other = engine_at(good.endpoint());
  EXPECT_EQ(answer_of(other).verb(), "HELD");
  EXPECT_LT(most_memory(driver.pid()), most_memory(other.pid()) + 16 * 1024);
}

struct HostileRow {
  const char* name;
  const char* head;
  const char* piece; // without end
};
constexpr const char* k_chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
constexpr HostileRow k_hostile[] = {
  {"endless_chunk_extension", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=", "aaaaaaaaaaaaaaaa"},
  {"endless_chunk_extensions", k_chunked, "1;x=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n \r\n"},
  {"endless_chunks", k_chunked, "10\r\n[[[[[[[[[[[[[[[[\r\n"},
  {"endless_body", "HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", "[1,1,1,1,1,1,1,1"},
  {"body_without_length", "HTTP/1.1 200 OK\r\n\r\n", "{\"a\":{\"a\":{\"a\":{"},
  {"endless_trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X: aaaaaaaaaaaaaaaa\r\n"},
  {"endless_header", "HTTP/1.1 200 OK\r\nX: ", "aaaaaaaaaaaaaaaa"},
  {"endless_headers", "HTTP/1.1 200 OK\r\n", "X: aaaaaaaaaaaaaaaa\r\n"},
  {"endless_interim_answers", "", "HTTP/1.1 100 Continue\r\n\r\n"},
};
class EtcdHostile : public ::testing::TestWithParam<HostileRow> {};
TEST_P(EtcdHostile, AnswerIsBounded)
{
  const ScriptedServer server([](const auto&, const Peer& peer) {
    std::string pieces;
    while (pieces.size() < 60'000) { pieces += GetParam().piece; }
    if (!peer.send(GetParam().head)) { return; }
    while (peer.send(pieces)) {}
  });
  EngineDriver driver = engine_at(server.endpoint());
  const Message failure = answer_of(driver, "wait_ms=3000");
  EXPECT_EQ(failure.verb(), "FAIL");
  expect_modest_memory(driver);
}
INSTANTIATE_TEST_SUITE_P(
  Table, EtcdHostile, ::testing::ValuesIn(k_hostile), [](const auto& row) { return row.param.name; });

TEST(EtcdHostileLease, TimesToLiveThatMakeNoSenseAreRefused)
{
  for (const std::string ttl : {"0", "-1", "-9223372036854775808", "soon"}) {
    const ScriptedServer server(obliging_etcd(ttl));
    EngineDriver driver = engine_at(server.endpoint());
    const Message failure = answer_of(driver);
    EXPECT_EQ(failure.verb(), "FAIL") << ttl;
    EXPECT_THAT(text(failure, "text"), HasSubstr("etcd refuses: it grants a lease of ")) << ttl;
  }
}

TEST(EtcdHostileLease, TimeToLiveWithoutEndIsCut)
{
  const ScriptedServer server(obliging_etcd("9223372036854775807"));
  EngineDriver driver = engine_at(server.endpoint());
  const Message held = answer_of(driver);
  EXPECT_EQ(held.verb(), "HELD");
  EXPECT_EQ(held.number("ttl_ms"), 1'000'000'000);
}

// Answers that end, and are small, until they are understood.
std::string repeated(const std::string& piece, std::size_t size)
{
  std::string all;
  while (all.size() < size) { all += piece; }
  return all;
}
struct JsonRow {
  const char* name;
  const char* begin;
  const char* piece;
  const char* end;
};
constexpr JsonRow k_json_bombs[] = {
  {"deep_arrays", "", "[", ""},
  {"deep_objects", "", "{\"a\":", ""},
  {"many_numbers", "{\"a\":[1", ",1", "]}"},
  {"many_objects", "{\"a\":[{}", ",{}", "]}"},
  {"many_arrays", "{\"a\":[[]", ",[]", "]}"},
  {"many_members", "{\"a\":1", ",\"a\":1", "}"},
  {"many_different_members", "{\"a\":{", "\"\\\"\":{},", "}}"},
  {"long_error", "{\"code\":7,\"error\":\"", "not\\u0000you", "\"}"},
};
class EtcdJsonBomb : public ::testing::TestWithParam<JsonRow> {};
TEST_P(EtcdJsonBomb, TakesNoMoreMemoryAndTimeThanOthers)
{
  const std::string body = GetParam().begin + repeated(GetParam().piece, 1'900'000) + GetParam().end;
  const ScriptedServer server([&](const auto&, const Peer& peer) { peer.answer(200, body); });
  EngineDriver driver = engine_at(server.endpoint());
  const Message failure = answer_of(driver, "wait_ms=3000");
  EXPECT_EQ(failure.verb(), "FAIL");
  EXPECT_THAT(
    text(failure, "text"), ::testing::AnyOf(HasSubstr("it is not etcd's HTTP gateway"), HasSubstr("not?you")));
  EXPECT_LT(text(failure, "text").size(), 300U);
  expect_modest_memory(driver);
}
INSTANTIATE_TEST_SUITE_P(
  Table, EtcdJsonBomb, ::testing::ValuesIn(k_json_bombs), [](const auto& row) { return row.param.name; });

// Numbers that fit nowhere, in every place.
TEST(EtcdHostile, NumbersOutOfRangeAreNone)
{
  for (const std::string number : {"18446744073709551615", "-9223372036854775808", "\"-9223372036854775809\"",
         "\"99999999999999999999\"", "1e300", "-1", "null", "[]", "{}", "\"\"", "\" 7\"", "\"0x7\""}) {
    const ScriptedServer server([&](const ScriptedServer::Request& request, const Peer& peer) {
      const std::string facts = R"("cluster_id":N,"member_id":N,"revision":N,"raft_term":N)";
      const std::string key = R"({"key":"bG9jay8x","create_revision":N,"mod_revision":N,"version":N,"lease":N})";
      std::string body = "{\"header\":{" + facts + "},\"raftIndex\":N,\"kvs\":[" + key +
                         "],\"ID\":N,\"TTL\":\"30\",\"result\":{\"TTL\":\"30\",\"header\":{" + facts +
                         "}},\"succeeded\":true,\"responses\":[{\"response_range\":{\"kvs\":[" + key + "]}}]}";
      for (std::size_t at = 0; (at = body.find(":N", at)) != std::string::npos;) { body.replace(at + 1, 1, number); }
      if (request.path != "/v3/watch") { peer.answer(200, body); }
    });
    EngineDriver driver = engine_at(server.endpoint());
    EXPECT_EQ(answer_of(driver, "wait_ms=300").verb(), "FAIL") << number; // it makes no key
    EXPECT_EQ(driver.wait(), exited(0)) << number;
    EXPECT_LT(server.requests(), 500) << number; // and is not asked without a pause
  }
}

// What follows the last revision that there is.
TEST(EtcdHostile, RevisionsMayBeAsLargeAsTheyLike)
{
  for (const std::string revision : {"9223372036854775807", "-9223372036854775808", "-1", "0"}) {
    std::atomic<bool> is_watched = false;
    const auto etcd = obliging_etcd("30", revision);
    const ScriptedServer server([&](const ScriptedServer::Request& request, const Peer& peer) {
      is_watched = is_watched || request.path == "/v3/watch";
      etcd(request, peer);
    });
    EngineDriver driver = engine_at(server.endpoint());
    EXPECT_EQ(answer_of(driver).verb(), "HELD") << revision;
    EXPECT_TRUE(eventually([&] { return is_watched.load(); })) << revision;
    driver.say("RELEASE");
    EXPECT_EQ(driver.hear("RELEASED").verb(), "RELEASED") << revision;
    EXPECT_EQ(driver.wait(), exited(0)) << revision;
  }
}

// One piece at a time, for longer than the lock is to be waited for.
constexpr HostileRow k_trickling[] = {
  {"body", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "["},
  {"headers", "HTTP/1.1 200 OK\r\n", "X:a\r\n"},
  {"chunk_extension", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "x"},
  {"trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X"},
};
class EtcdTrickle : public ::testing::TestWithParam<HostileRow> {};
TEST_P(EtcdTrickle, EndsWithTheLimit)
{
  std::atomic<bool> is_over = false;
  const ScriptedServer server([&](const auto&, const Peer& peer) {
    (void)peer.send(GetParam().head);
    while (!is_over && peer.send(GetParam().piece)) { std::this_thread::sleep_for(milliseconds(1)); }
  });
  EngineDriver driver = engine_at(server.endpoint());
  const Message failure = answer_of(driver, "wait_ms=1000");
  is_over = true;
  EXPECT_EQ(failure.verb(), "FAIL");
  EXPECT_THAT(text(failure, "text"), HasSubstr("no answer in time"));
}
INSTANTIATE_TEST_SUITE_P(
  Table, EtcdTrickle, ::testing::ValuesIn(k_trickling), [](const auto& row) { return row.param.name; });

// A watch that never stops talking is no reason to miss a renewal.
TEST(EtcdHostile, WatchThatNeverStopsDoesNotKeepItFromRenewing)
{
  const auto etcd = obliging_etcd("3");
  const ScriptedServer server([&](const ScriptedServer::Request& request, const Peer& peer) {
    etcd(request, peer);
    if (request.path != "/v3/watch") { return; }
    while (peer.send("14\r\n                   \n\r\n")) {}
  });
  EngineDriver driver = engine_at(server.endpoint());
  ASSERT_EQ(answer_of(driver, "ttl_ms=3000").verb(), "HELD");
  for (int i = 0; i < 3; ++i) {
    const Message said = driver.hear("RENEWED", "LOST");
    ASSERT_EQ(said.verb(), "RENEWED") << text(said, "reason");
  }
  if (!is_sanitized(LOCKRUN_ENGINE)) { EXPECT_LT(most_memory(driver.pid()), 32 * 1024); }
}

TEST(EtcdOutage, ConnectsLessAndLessOften)
{
  std::atomic<bool> is_away = false;
  const auto etcd = obliging_etcd("9");
  const ScriptedServer server([&](const ScriptedServer::Request& request, const Peer& peer) {
    if (is_away) {
      peer.answer(503, "away");
    } else {
      etcd(request, peer);
    }
  });
  EngineDriver driver = engine_at(server.endpoint());
  ASSERT_EQ(answer_of(driver, "ttl_ms=9000").verb(), "HELD");
  is_away = true;
  ASSERT_EQ(driver.hear("TROUBLE", "LOST").verb(), "TROUBLE");
  const int before = server.requests();
  ASSERT_EQ(driver.hear("LOST").verb(), "LOST"); // six seconds later
  EXPECT_LT(server.requests() - before, 50);     // without growing pauses it would be hundreds
}

} // namespace
} // namespace lockrun::testing
