// Which of the servers that a URL names is reached, and what is said when none is.

#include "engines/etcd/etcd_fixture.hpp"
#include "support/engine_driver.hpp"
#include "support/etcd_servers.hpp"
#include "support/eventually.hpp"
#include "support/temp_dir.hpp"

#include <algorithm>
#include <csignal>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

// Takes connections, and says nothing.
class Mute {
public:
  Mute() : m_socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))
  {
    ::sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::socklen_t size = sizeof address;
    auto* const generic = reinterpret_cast<::sockaddr*>(&address);
    EXPECT_EQ(::bind(m_socket, generic, size), 0);
    EXPECT_EQ(::listen(m_socket, SOMAXCONN), 0);
    EXPECT_EQ(::getsockname(m_socket, generic, &size), 0);
    m_endpoint = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  ~Mute() { ::close(m_socket); }
  Mute(const Mute&) = delete;
  Mute& operator=(const Mute&) = delete;
  const std::string& endpoint() const { return m_endpoint; }

private:
  int m_socket;
  std::string m_endpoint;
};

TEST_F(Etcd, IsAskedInTimeWhenTheFirstEndpointIsMute)
{
  const Mute mute;
  EngineDriver driver = engine_at("etcd://" + mute.endpoint() + "," + etcd->endpoint(0) + "/lock");
  driver.acquire("wait_ms=2000");
  EXPECT_EQ(driver.hear("HELD", "FAIL").verb(), "HELD");
}

TEST(EtcdUnreachable, SaysWhoIsMute)
{
  const Mute one;
  const Mute two;
  for (const std::string& endpoints : {one.endpoint(), one.endpoint() + "," + two.endpoint()}) {
    EngineDriver driver(LOCKRUN_ENGINE, "etcd://" + endpoints + "/lock");
    driver.acquire("wait_ms=1000");
    const Message failure = driver.hear("FAIL", "HELD");
    EXPECT_EQ(number(failure, "status"), 69);
    std::string words = "cannot reach etcd: " + endpoints + ": no answer in time";
    const auto comma = words.find(',');
    if (comma != std::string::npos) { words.replace(comma, 1, ": no answer in time; "); }
    EXPECT_EQ(text(failure, "text"), words);
  }
}

TEST(EtcdUnreachable, SaysWhichFileIsMissing)
{
  EngineDriver driver(LOCKRUN_ENGINE, "etcd://127.0.0.1:1/lock?cacert=/nope");
  driver.acquire();
  EXPECT_THAT(text(driver.hear("FAIL", "HELD"), "text"),
    HasSubstr("cannot use the cacert file '/nope': No such file or directory (ENOENT)"));
}

TEST(EtcdUnreachable, RefusesAKeyThatNeedsAPassPhrase)
{
  if (const auto reason = no_etcd()) { GTEST_SKIP() << *reason; } // openssl(1) comes with it
  const TempDir dir;
  make_certificates(dir.path());
  const char* const encrypt = "openssl pkey -in client-key.pem -aes256 -passout pass:x -out new.pem && "
                              "openssl pkey -in client-key.pem -aes256 -passout pass:x -traditional -out old.pem";
  Start in_dir;
  in_dir.directory = dir.path();
  ASSERT_EQ(run_program({"sh", "-c", encrypt}, in_dir).status, exited(0));
  for (const char* const form : {"new.pem", "old.pem"}) {
    const std::string key = dir / form;
    EngineDriver driver(
      LOCKRUN_ENGINE, "etcd://127.0.0.1:1/lock?cert=" + (dir / "client.pem").string() + "&key=" + key);
    driver.acquire();
    EXPECT_EQ(text(driver.hear("FAIL", "HELD"), "text"),
      "no secure connection to etcd: 127.0.0.1:1: cannot use the key file '" + key + "': it needs a pass phrase");
  }
}

struct UsageRow {
  const char* name;
  const char* path;
  const char* wishes;
  const char* text;
};
constexpr UsageRow k_usage[] = {
  {"a_parameter_it_does_not_know", "lock?tll=9s", "", "etcd has no parameter 'tll'"},
  {"no_name", "", "", "the URL names no lock"},
  {"a_ttl_too_short", "lock", "ttl_ms=1999", "ttl=1999ms leaves no time to renew the lease"},
  {"half_of_a_certificate", "lock?cert=/x.pem", "", "cert= and key= go together"},
  {"tls_neither_yes_nor_no", "lock?tls=maybe", "", "tls=maybe: it is yes or no"},
  {"a_password_file_that_is_missing", "lock?password-file=/nowhere/p", "",
    "cannot read a password from '/nowhere/p': No such file or directory (ENOENT)"},
};
class EtcdUsage : public ::testing::TestWithParam<UsageRow> {};
TEST_P(EtcdUsage, IsRefused)
{
  Start start;
  start.environment["ETCDCTL_USER"] = "ann";
  EngineDriver driver(LOCKRUN_ENGINE, std::string("etcd://127.0.0.1:1/") + GetParam().path, start);
  driver.acquire(GetParam().wishes);
  const Message failure = driver.hear("FAIL", "HELD");
  EXPECT_EQ(number(failure, "status"), 64);
  EXPECT_EQ(text(failure, "text"), GetParam().text);
}
INSTANTIATE_TEST_SUITE_P(
  Table, EtcdUsage, ::testing::ValuesIn(k_usage), [](const auto& row) { return row.param.name; });

TEST(EtcdUnreachable, SaysWhatEachEndpointSaid)
{
  EngineDriver driver(LOCKRUN_ENGINE, "etcd://ann:secret@127.0.0.1:1,[::1]:2/lock");
  driver.acquire();
  const Message failure = driver.hear("FAIL", "HELD");
  EXPECT_EQ(number(failure, "status"), 69);
  EXPECT_EQ(text(failure, "reason"), "unreachable");
  EXPECT_THAT(
    text(failure, "text"), StartsWith("cannot reach etcd: 127.0.0.1:1: Connection refused (ECONNREFUSED); [::1]:2: "));
  EXPECT_THAT(format(failure), Not(HasSubstr("secret")));
}

class EtcdOfThree : public Etcd {
protected:
  EtcdSetup setup() const override { return {3, {}, false}; }

  // The deadline rises so often, and the lock is not lost.
  static void expect_renewals(EngineDriver& driver, int times)
  {
    for (int i = 0; i < times; ++i) { ASSERT_EQ(driver.hear("RENEWED", "LOST").verb(), "RENEWED"); }
  }
};

TEST_F(EtcdOfThree, SurvivesTheDeathOfItsLeader)
{
  EngineDriver driver = holder("ttl_ms=9000");
  EngineDriver next = waiter("ttl_ms=9000");
  int leader = -1;
  ASSERT_TRUE(eventually([&] { return (leader = etcd->leader()) >= 0; }));
  etcd->kill(leader);
  expect_renewals(driver, 2);
  EXPECT_FALSE(next.has_said_something() && next.hear("HELD", "TROUBLE").is("HELD"));
  release(driver);
  EXPECT_TRUE(next.hear("HELD").is("HELD"));
}

// A leader that is frozen for longer than a lease lives ends, once thawed, the leases that it knew, whatever its
// successor has done with them meanwhile.
TEST_F(EtcdOfThree, SurvivesAFrozenLeaderThatThaws)
{
  EngineDriver driver = holder("ttl_ms=9000");
  EngineDriver next = waiter("ttl_ms=9000");
  const auto keys = etcd->keys("lock/");
  const auto leases = etcd->leases();
  int leader = -1;
  ASSERT_TRUE(eventually([&] { return (leader = etcd->leader()) >= 0; }));
  etcd->signal(leader, SIGSTOP);
  expect_renewals(driver, 5); // one each three seconds
  EXPECT_THAT(etcd->keys("lock/"), keys);
  EXPECT_TRUE(eventually([&] {
    const auto now = etcd->leases();
    return std::find_first_of(now.begin(), now.end(), leases.begin(), leases.end()) == now.end();
  }));
  etcd->signal(leader, SIGCONT);
  expect_renewals(driver, 3);
  EXPECT_THAT(etcd->keys("lock/"), keys);
  EXPECT_FALSE(next.has_said_something() && next.hear("HELD", "TROUBLE").is("HELD"));
  release(driver);
  EXPECT_TRUE(next.hear("HELD").is("HELD"));
  release(next);
  EXPECT_THAT(etcd->leases(), IsEmpty());
}

TEST_F(EtcdOfThree, AsksTheOthersWhenTheFirstIsGone)
{
  etcd->kill(0);
  EngineDriver driver = holder();
  release(driver);
}

} // namespace
} // namespace lockrun::testing
