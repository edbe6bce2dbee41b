#include "engines/net/names.hpp"
#include "support/engine_driver.hpp"
#include "support/etcd_servers.hpp"
#include "support/eventually.hpp"
#include "support/name_server.hpp"
#include "support/network.hpp"
#include "support/scripted_server.hpp"
#include "support/temp_dir.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>

// The engine program where names and addresses are in a bad way: a network of its own, with name servers that do what
// the test says.
namespace lockrun::testing {
namespace {

using protocol::Message;
using ::testing::Contains;
using ::testing::HasSubstr;
using Type = NameServer::Type;
using Code = NameServer::Code;
using Script = NameServer::Script;

constexpr const char* k_name = "etcd.test";
constexpr const char* k_name_server = "127.0.0.1";
constexpr const char* k_nobody_there = "127.0.0.7";    // refuses whatever it is asked
constexpr const char* k_black_hole = "10.78.0.99";     // answers nothing
constexpr ::rlim_t k_many = 10'000;                    // processes of a user
constexpr const char* k_without_route = "2001:db8::1"; // to which there is no way

std::string text(const Message& message, const char* key)
{
  return std::string(message.text(key).value_or(""));
}

Script by_type(Script ipv4, Script ipv6)
{
  return [ipv4 = std::move(ipv4), ipv6 = std::move(ipv6)](const NameServer::Question& question,
           const NameServer::Reply& reply) { (question.type == Type::a ? ipv4 : ipv6)(question, reply); };
}

// Another one for those after the first `count` questions of each kind.
Script at_first(int count, Script first, Script later)
{
  return [count, first = std::move(first), later = std::move(later)](const NameServer::Question& question,
           const NameServer::Reply& reply) { (question.number <= count ? first : later)(question, reply); };
}

// One that can be exchanged.
class Changing {
public:
  explicit Changing(Script script) : m_script(std::move(script)) {}
  void become(Script script)
  {
    const std::lock_guard lock(m_mutex);
    m_script = std::move(script);
  }
  Script script()
  {
    return [this](const NameServer::Question& question, const NameServer::Reply& reply) {
      const std::lock_guard lock(m_mutex);
      m_script(question, reply);
    };
  }

private:
  std::mutex m_mutex;
  Script m_script;
};

// How many connections of this network there are that have not been made yet.
int tries_of(const std::string& address)
{
  int count = 0;
  ::in_addr bytes{};
  (void)::inet_pton(AF_INET, address.c_str(), &bytes);
  const std::string wanted = fmt::format(" {:08X}:", bytes.s_addr);
  std::ifstream table("/proc/thread-self/net/tcp");
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    const std::vector<std::string> all{std::istream_iterator<std::string>(words), {}}; // number, ours, theirs, state, …
    count += all.size() > 3 && (" " + all[2]).starts_with(wanted) && all[3] == "02" ? 1 : 0; // SYN_SENT
  }
  return count;
}

class EtcdNames : public ::testing::Test {
protected:
  void SetUp() override
  {
    if (const auto reason = no_network()) { GTEST_SKIP() << *reason; }
    network.emplace();
  }

  Start start(const std::vector<std::string>& name_servers = {k_name_server}, const std::string& more = {}) const
  {
    Start result = with_name_servers(dir, name_servers, more);
    for (const char* const variable : {"ETCDCTL_USER", "RES_OPTIONS", "LOCALDOMAIN"}) {
      result.environment[variable] = std::nullopt;
    }
    return result;
  }

  static EngineDriver engine_at(const std::string& endpoints, const Start& with)
  {
    return {LOCKRUN_ENGINE, "etcd://" + endpoints + "/lock", with};
  }

  static std::string endpoint(int port, const std::string& name = k_name) { return fmt::format("{}:{}", name, port); }

  static Message answer_of(EngineDriver& driver, const std::string& wishes = {})
  {
    driver.acquire(wishes);
    return driver.hear("HELD", "FAIL");
  }

  static void expect_renewal(EngineDriver& driver)
  {
    const Message said = driver.hear("RENEWED", "LOST");
    EXPECT_EQ(said.verb(), "RENEWED") << text(said, "reason");
  }

  const TempDir dir;
  std::optional<OwnNetwork> network;
};

struct FoundRow {
  const char* name;
  std::function<Script()> script; // of the last of the name servers
  std::vector<std::string> before;
  const char* wishes = "";
  const char* more = "";
  const char* host = k_name;
};
const auto k_good = [] { return always({"127.0.0.1"}); };
const FoundRow k_found[] = {
  {"at_once", k_good, {}},
  {"without_addresses_of_ipv6", [] { return by_type(k_good(), always(std::vector<std::string>())); }, {}},
  {"unknown_for_ipv6", [] { return by_type(k_good(), always(Code::no_such_name)); }, {}},
  {"failing_for_ipv6", [] { return by_type(k_good(), always(Code::server_failure)); }, {}},
  {"failing_at_first", [] { return at_first(12, always(Code::server_failure), k_good()); }, {}},
  {"refused_at_first", [] { return at_first(12, always(Code::refused), k_good()); }, {}},
  {"slow", [] { return at_first(2, silence(), k_good()); }, {}},
  {"first_name_server_not_there", k_good, {k_nobody_there}},
  // Five seconds would be the resolver's own.
  {"first_name_server_silent", k_good, {k_black_hole}, "wait_ms=4000 ttl_ms=2000"},
  {"first_name_server_silent_and_then_the_one_for_ipv6", [] { return by_type(k_good(), silence()); }, {k_black_hole},
    "wait_ms=4000"},
  {"first_name_server_silent_for_each_of_the_domains",
    [] {
      return [](const NameServer::Question& question, const NameServer::Reply& reply) {
        (question.name == "etcd.b.test" ? k_good() : always(Code::no_such_name))(question, reply);
      };
    },
    {k_black_hole}, "", "search a.test b.test\noptions ndots:3", "etcd"},
};
class EtcdNamesFound : public EtcdNames, public ::testing::WithParamInterface<FoundRow> {};
TEST_P(EtcdNamesFound, LetTheLockBeAcquired)
{
  const ScriptedServer etcd(obliging_etcd());
  const NameServer names(k_name_server, GetParam().script());
  std::vector<std::string> servers = GetParam().before;
  servers.emplace_back(k_name_server);
  EngineDriver driver = engine_at(endpoint(etcd.port(), GetParam().host), start(servers, GetParam().more));
  const Message answer = answer_of(driver, GetParam().wishes);
  EXPECT_EQ(answer.verb(), "HELD") << text(answer, "text");
}
INSTANTIATE_TEST_SUITE_P(
  Table, EtcdNamesFound, ::testing::ValuesIn(k_found), [](const auto& row) { return row.param.name; });

// The resolver would wait for half a minute, though it has what we need.
TEST_F(EtcdNames, SilenceAboutIPv6DoesNotHoldUpIPv4)
{
  const ScriptedServer etcd(obliging_etcd());
  const NameServer names(k_name_server, by_type(k_good(), silence()));
  Start patient = start();
  patient.environment["RES_OPTIONS"] = "timeout:30";
  EngineDriver driver = engine_at(endpoint(etcd.port()), patient);
  const Message answer = answer_of(driver);
  EXPECT_EQ(answer.verb(), "HELD") << text(answer, "text");
}

TEST_F(EtcdNames, OneThatIsNotKnownFailsAtOnce)
{
  const NameServer names(k_name_server, always(Code::no_such_name));
  EngineDriver driver = engine_at(endpoint(2379), start());
  const Message answer = answer_of(driver);
  EXPECT_EQ(text(answer, "text"), "cannot reach etcd: etcd.test:2379: Name or service not known");
  EXPECT_LE(names.questions(k_name, Type::a), 2); // with the whole request, and with the part that comes first
}

struct LostRow {
  const char* name;
  std::function<Script()> script;
  const char* text;
};
const LostRow k_lost[] = {
  {"a_failure", [] { return always(Code::server_failure); }, "Temporary failure in name resolution"},
  {"a_refusal", [] { return always(Code::refused); }, "Temporary failure in name resolution"},
  {"a_failure_before_silence", [] { return at_first(10, always(Code::server_failure), silence()); },
    "Temporary failure in name resolution"},
  {"silence", [] { return silence(); }, "its name is not resolved in time"},
  {"an_address_without_a_route", [] { return always({k_without_route}); }, ""}, // says the kernel, in its words
};
class EtcdNamesLost : public EtcdNames, public ::testing::WithParamInterface<LostRow> {};
TEST_P(EtcdNamesLost, AreNamedWithTheCause)
{
  const NameServer names(k_name_server, GetParam().script());
  EngineDriver driver = engine_at(endpoint(2379), start());
  const Message answer = answer_of(driver, "wait_ms=700");
  EXPECT_EQ(answer.verb(), "FAIL");
  EXPECT_EQ(text(answer, "reason"), "unreachable");
  EXPECT_THAT(text(answer, "text"), HasSubstr(std::string("etcd.test:2379: ") + GetParam().text));
}
INSTANTIATE_TEST_SUITE_P(
  Table, EtcdNamesLost, ::testing::ValuesIn(k_lost), [](const auto& row) { return row.param.name; });

// The first address is not given up while the third one is asked; which is then the first. (None of them is nearer to
// 127.0.0.1 than the others, which getaddrinfo(3) would put to the front.)
TEST_F(EtcdNames, AddressesAreTriedSideBySideAndTheGoodOneIsRemembered)
{
  std::atomic<int> of_its_own = 0;
  std::atomic<int> asked_beside = 0;
  std::atomic<int> asked_alone = 0;
  const Script addresses = always({"127.0.0.8", "127.0.0.9", "127.0.0.10"});
  const NameServer names(k_name_server, addresses);
  const auto obliging = obliging_etcd("3");
  const auto script = [&](const ScriptedServer::Request& request, const Peer& peer) {
    ++(tries_of("127.0.0.8") > of_its_own ? asked_beside : asked_alone);
    obliging(request, peer);
  };
  ScriptedServer etcd(script, "127.0.0.10");
  const SilentAddress one("127.0.0.8", etcd.port());
  const SilentAddress two("127.0.0.9", etcd.port());
  of_its_own = tries_of("127.0.0.8");
  EngineDriver driver = engine_at(endpoint(etcd.port()), start());
  ASSERT_EQ(answer_of(driver, "ttl_ms=3000").verb(), "HELD");
  EXPECT_GT(asked_beside, 0);
  expect_renewal(driver);
  asked_beside = 0;
  asked_alone = 0;
  etcd.disconnect();
  expect_renewal(driver);
  EXPECT_EQ(asked_beside, 0);
  EXPECT_GT(asked_alone, 0);
}

// Its connection falls silent, and nothing says so, nor where else to ask.
TEST_F(EtcdNames, AddressInUseDiesWhileAnotherOneLives)
{
  network->add("10.78.0.1");
  network->add("10.78.0.2");
  const auto script = obliging_etcd("6");
  const ScriptedServer one(script, "10.78.0.1");
  const ScriptedServer two(script, "10.78.0.2", one.port());
  Changing answers(always({"10.78.0.1", "10.78.0.2"}));
  const NameServer names(k_name_server, answers.script());
  EngineDriver driver = engine_at(endpoint(one.port()), start());
  ASSERT_EQ(answer_of(driver, "ttl_ms=6000").verb(), "HELD");
  const bool is_one = one.requests() > 0;
  EXPECT_EQ(two.requests() > 0, !is_one);
  answers.become(silence());
  network->remove(is_one ? "10.78.0.1" : "10.78.0.2");
  expect_renewal(driver);
  EXPECT_GT((is_one ? two : one).requests(), 0);
}

// Whether the old one falls silent or refuses.
class EtcdNamesChange : public EtcdNames, public ::testing::WithParamInterface<bool> {};
TEST_P(EtcdNamesChange, IsNoticedWhileTheLockIsHeld)
{
  const bool falls_silent = GetParam();
  network->add("10.78.0.1");
  const auto script = obliging_etcd("6");
  std::optional<ScriptedServer> before(std::in_place, script, "10.78.0.1");
  const int port = before->port();
  Changing answers(always({"10.78.0.1"}));
  const NameServer names(k_name_server, answers.script());
  EngineDriver driver = engine_at(endpoint(port), start());
  ASSERT_EQ(answer_of(driver, "ttl_ms=6000").verb(), "HELD");
  network->add("10.78.0.2");
  const ScriptedServer after(script, "10.78.0.2", port);
  answers.become(always({"10.78.0.2"}));
  if (falls_silent) {
    network->remove("10.78.0.1");
  } else {
    before.reset();
  }
  expect_renewal(driver);
  EXPECT_GT(after.requests(), 0);
}
INSTANTIATE_TEST_SUITE_P(
  Table, EtcdNamesChange, ::testing::Bool(), [](const auto& row) { return row.param ? "to_silence" : "to_a_refusal"; });

struct OutageRow {
  const char* name;
  std::function<Script()> script;
};
const OutageRow k_outages[] = {
  {"silent", [] { return silence(); }},
  {"failing", [] { return always(Code::server_failure); }},
  {"emptied", [] { return always(Code::no_such_name); }},
};
class EtcdNamesOutage : public EtcdNames, public ::testing::WithParamInterface<OutageRow> {};
TEST_P(EtcdNamesOutage, LeavesAHolderTheAddressesThatItKnows)
{
  const auto script = obliging_etcd("6");
  std::optional<ScriptedServer> etcd(std::in_place, script);
  const int port = etcd->port();
  Changing answers(k_good());
  const NameServer names(k_name_server, answers.script());
  EngineDriver driver = engine_at(endpoint(port), start());
  ASSERT_EQ(answer_of(driver, "ttl_ms=6000").verb(), "HELD");
  answers.become(GetParam().script());
  const int before = names.questions();
  etcd.reset();
  ASSERT_EQ(driver.hear("TROUBLE", "LOST").verb(), "TROUBLE");
  ASSERT_TRUE(eventually([&] { return names.questions() > before; }));
  etcd.emplace(script, "127.0.0.1", port);
  expect_renewal(driver);
}
INSTANTIATE_TEST_SUITE_P(
  Table, EtcdNamesOutage, ::testing::ValuesIn(k_outages), [](const auto& row) { return row.param.name; });

// With nobody to tell the name any more, a holder keeps its lock and a waiter its place.
TEST_F(EtcdNames, ServerIsStartedAgainDuringAnOutageOfTheNames)
{
  if (const auto reason = no_etcd()) { GTEST_SKIP() << *reason; }
  EtcdServers etcd;
  Changing answers(k_good());
  const NameServer names(k_name_server, answers.script());
  const std::string by_name = k_name + etcd.endpoint(0).substr(etcd.endpoint(0).rfind(':'));
  EngineDriver holder = engine_at(by_name, start());
  ASSERT_EQ(answer_of(holder, "ttl_ms=12000").verb(), "HELD");
  EngineDriver waiter = engine_at(by_name, start());
  waiter.acquire("ttl_ms=12000");
  ASSERT_EQ(waiter.hear("WAITING", "HELD").verb(), "WAITING");
  const auto keys = etcd.keys("lock/");

  answers.become(silence());
  etcd.kill(0);
  ASSERT_EQ(waiter.hear("TROUBLE", "HELD").verb(), "TROUBLE");
  ASSERT_EQ(holder.hear("TROUBLE", "LOST").verb(), "TROUBLE");
  etcd.start(0);
  expect_renewal(holder);
  holder.say("RELEASE");

  const Message held = waiter.hear("HELD", "FAIL");
  EXPECT_EQ(held.verb(), "HELD");
  EXPECT_THAT(keys, Contains(text(held, "key")));
}

struct WordRow {
  const char* name;
  std::function<void(EngineDriver&)> say;
};
const WordRow k_words[] = {
  {"abandon", [](EngineDriver& driver) { driver.say("ABANDON"); }},
  {"release", [](EngineDriver& driver) { driver.say("RELEASE"); }},
  {"the_end", [](EngineDriver& driver) { driver.hang_up(); }},
};
class EtcdNamesAwaited : public EtcdNames, public ::testing::WithParamInterface<WordRow> {};
TEST_P(EtcdNamesAwaited, DoNotMakeItDeaf)
{
  const NameServer names(k_name_server, silence());
  EngineDriver driver = engine_at(endpoint(2379), start());
  driver.acquire();
  ASSERT_TRUE(eventually([&] { return names.questions() > 0; }));
  GetParam().say(driver);
  EXPECT_EQ(driver.wait(), exited(0));
  EXPECT_LT(names.questions(), 8); // as many seconds would have passed until it gives up by itself
}
INSTANTIATE_TEST_SUITE_P(
  Table, EtcdNamesAwaited, ::testing::ValuesIn(k_words), [](const auto& row) { return row.param.name; });

// It asks again until there is a thread for the name.
TEST_F(EtcdNames, AreLookedUpOnceThereAreThreads)
{
  const ScriptedServer stranger([](const auto&, const Peer& peer) { peer.answer(404, ""); }); // no reason to go on
  const ScriptedServer etcd(obliging_etcd());
  const NameServer names(k_name_server, k_good());
  Start limited = start();
  limited.before_exec.push_back(hostile::limit(RLIMIT_NPROC, 0, k_many));
  limited.before_exec.push_back(hostile::become_user(k_nobody));
  std::optional<EngineDriver> driver;
  try {
    driver.emplace(engine_at(endpoint(etcd.port()) + "," + stranger.endpoint(), limited));
  } catch (const std::exception& error) {
    GTEST_SKIP() << "the engine is where others cannot run it: " << error.what();
  }
  driver->acquire();
  ASSERT_TRUE(eventually([&] { return stranger.connections() > 3; })); // once for each round of tries
  EXPECT_EQ(names.questions(), 0);
  Start same_user; // others may not change its limits
  same_user.before_exec = {hostile::become_user(k_nobody)};
  const std::string pid = std::to_string(driver->pid());
  const Finished raised = run_program({"prlimit", "--pid=" + pid, fmt::format("--nproc={}", k_many)}, same_user);
  ASSERT_EQ(raised.status, exited(0)) << raised.err;
  EXPECT_EQ(driver->hear("HELD", "FAIL").verb(), "HELD");
}

struct FrontRow {
  const char* name;
  const char* endpoint;
};
constexpr FrontRow k_fronts[] = {
  {"that_refuses", "127.0.0.7:2379"},
  {"that_is_silent", "10.78.0.99:2379"},
  {"that_has_no_route", "[2001:db8::1]:2379"},
  {"with_a_name_that_is_not_known", "unknown.test:2379"},
  {"with_a_name_that_fails", "failing.test:2379"},
  {"with_a_name_that_nobody_answers", "silent.test:2379"},
  {"with_a_name_for_a_silent_address", "hole.test:2379"},
  {"with_a_name_for_ipv6_alone", "ipv6.test:2379"},
};
class EtcdDeadEndpoint : public EtcdNames, public ::testing::WithParamInterface<FrontRow> {};
TEST_P(EtcdDeadEndpoint, AtTheFrontDelaysNobody)
{
  const ScriptedServer etcd(obliging_etcd());
  const NameServer names(k_name_server, [](const NameServer::Question& question, const NameServer::Reply& reply) {
    const std::map<std::string, Script> scripts{{"unknown.test", always(Code::no_such_name)},
      {"failing.test", always(Code::server_failure)}, {"silent.test", silence()}, {"hole.test", always({k_black_hole})},
      {"ipv6.test", always({k_without_route})}};
    const auto found = scripts.find(question.name);
    (found != scripts.end() ? found->second : always(Code::no_such_name))(question, reply);
  });
  const std::string dead = GetParam().endpoint;
  for (int i = 0; i < 4; ++i) { // any of them may be the first
    EngineDriver driver = engine_at(dead + "," + dead + "," + etcd.endpoint(), start());
    const Message answer = answer_of(driver, "wait_ms=3000");
    EXPECT_EQ(answer.verb(), "HELD") << text(answer, "text");
  }
}
INSTANTIATE_TEST_SUITE_P(
  Table, EtcdDeadEndpoint, ::testing::ValuesIn(k_fronts), [](const auto& row) { return row.param.name; });

// Stacks of threads are among them.
int mappings()
{
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);) { ++count; }
  return count;
}

int entries(const char* directory)
{
  return static_cast<int>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

// Hundreds of look-ups, which find something or nothing, with and without the one for IPv4.
TEST_F(EtcdNames, LeaveNoThreadsAndDescriptorsBehind)
{
  const NameServer names(k_name_server, [](const NameServer::Question& question, const NameServer::Reply& reply) {
    (question.number % 2 == 0 ? k_good() : always(Code::no_such_name))(question, reply);
  });
  const Start here = start();
  std::atomic<int> failures = 0;
  const int threads = entries("/proc/self/task");
  const int descriptors = entries("/proc/self/fd");
  const int memory = mappings();
  std::thread([&] { // it alone has the files
    for (const auto& change : here.before_exec) { change(); }
    const engines::net::Bell bell = engines::net::make_bell();
    for (int i = 0; i < 300; ++i) {
      engines::net::Host host({k_name, "2379"}, bell);
      host.look_up();
      if (i % 3 == 0) { host.look_up(); }
      if (i % 5 == 0) { continue; } // it is not waited for
      while (!host.take() || host.is_being_looked_up()) {
        ::pollfd rung{bell->get(), POLLIN, 0};
        (void)::poll(&rung, 1, -1);
        engines::net::silence(bell);
      }
      failures += host.addresses().empty() ? 1 : 0;
    }
  })
    .join();
  EXPECT_GT(failures, 0);
  EXPECT_LT(failures, 200);
  EXPECT_TRUE(eventually([&] { return entries("/proc/self/task") == threads; })) << entries("/proc/self/task");
  EXPECT_EQ(entries("/proc/self/fd"), descriptors);
  EXPECT_LT(mappings(), memory + 100);
}

} // namespace
} // namespace lockrun::testing
