// Servers that do not let everybody in: users and passwords, certificates, no JSON gateway.

#include "engines/etcd/etcd_fixture.hpp"
#include "support/engine_driver.hpp"
#include "support/etcd_servers.hpp"
#include "support/temp_dir.hpp"

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class EtcdWithoutGateway : public Etcd {
  EtcdSetup setup() const override { return {1, {"--enable-grpc-gateway=false"}, false}; }
};
TEST_F(EtcdWithoutGateway, IsRefusedWithTheCause)
{
  const Message failure = failure_of("");
  EXPECT_EQ(number(failure, "status"), 69);
  EXPECT_EQ(text(failure, "reason"), "refused");
  EXPECT_THAT(text(failure, "hint"), HasSubstr("--enable-grpc-gateway=false"));
}

class EtcdWithUsers : public Etcd {
protected:
  void SetUp() override
  {
    Etcd::SetUp();
    if (IsSkipped()) { return; }
    for (const std::vector<std::string>& step :
      std::vector<std::vector<std::string>>{{"user", "add", "root:rootpw"}, {"user", "add", "ann:s3cret"},
        {"role", "add", "locks"}, {"role", "grant-permission", "--prefix=true", "locks", "readwrite", "lock/"},
        {"user", "grant-role", "ann", "locks"}, {"user", "grant-role", "root", "root"}, {"auth", "enable"}}) {
      const Finished done = etcd->etcdctl(step);
      ASSERT_EQ(done.status, exited(0)) << step[0] << ": " << done.err;
    }
  }

  std::string url(const std::string& user, const std::string& rest) const
  {
    return "etcd://" + user + etcd->endpoints() + "/" + rest;
  }

  static Message answer(const std::string& url, const Start& start = {})
  {
    EngineDriver driver = engine_at(url, start);
    driver.acquire("nonblock=1");
    const Message said = driver.hear("HELD", "FAIL");
    if (said.is("HELD")) { release(driver); }
    EXPECT_THAT(format(said), Not(HasSubstr("s3cret")));
    return said;
  }
};

TEST_F(EtcdWithUsers, TakesThePasswordFromTheUrlAFileOrTheEnvironment)
{
  EXPECT_EQ(answer(url("ann:s3cret@", "lock")).verb(), "HELD");
  const TempDir dir;
  const auto file = write_file(dir / "password", "s3cret\n", 0600);
  EXPECT_EQ(answer(url("ann@", "lock?password-file=" + file.string())).verb(), "HELD");
  (void)write_file(file, "s3cret\r\n", 0600);
  EXPECT_EQ(answer(url("ann@", "lock?password-file=" + file.string())).verb(), "HELD");
  Start start;
  start.environment["LOCKRUN_ETCD_PASSWORD"] = "s3cret";
  EXPECT_EQ(answer(url("ann@", "lock"), start).verb(), "HELD");
  start.environment = {{"ETCDCTL_USER", "ann:s3cret"}};
  EXPECT_EQ(answer(url("", "lock"), start).verb(), "HELD");
}

TEST_F(EtcdWithUsers, SaysWhyItIsNotLetIn)
{
  for (const std::string& attempt :
    {url("ann:wrong-s3cre@", "lock"), url("", "lock"), url("ann:s3cret@", "elsewhere")}) {
    const Message failure = answer(attempt);
    EXPECT_EQ(failure.verb(), "FAIL") << attempt;
    EXPECT_EQ(number(failure, "status"), 77) << format(failure);
    EXPECT_EQ(text(failure, "reason"), "authentication");
  }
}

// Its tokens live in the server's memory.
TEST_F(EtcdWithUsers, AuthenticatesAgainWhenTheTokenIsNoLongerKnown)
{
  EngineDriver driver = engine_at(url("ann:s3cret@", "lock"));
  driver.acquire("ttl_ms=30000");
  ASSERT_TRUE(driver.hear("HELD", "FAIL").is("HELD"));
  etcd->kill(0);
  ASSERT_EQ(driver.hear("TROUBLE", "LOST").verb(), "TROUBLE");
  etcd->start(0);
  EXPECT_EQ(driver.hear("RENEWED", "LOST").verb(), "RENEWED");
  release(driver);
}

TEST_F(EtcdWithUsers, KeepsTheUserWhileAuthenticationIsSwitchedOff)
{
  const auto root = [&](const std::string& deed) { return etcd->etcdctl({"--user=root:rootpw", "auth", deed}).status; };
  ASSERT_EQ(root("disable"), exited(0));
  EngineDriver driver = engine_at(url("ann:s3cret@", "lock"));
  driver.acquire("ttl_ms=6000");
  ASSERT_EQ(driver.hear("HELD", "FAIL").verb(), "HELD");
  ASSERT_EQ(driver.hear("RENEWED", "LOST").verb(), "RENEWED");
  ASSERT_EQ(root("enable"), exited(0));
  for (int i = 0; i < 2; ++i) { ASSERT_EQ(driver.hear("RENEWED", "LOST").verb(), "RENEWED"); }
  ASSERT_EQ(root("disable"), exited(0));
  for (int i = 0; i < 2; ++i) { ASSERT_EQ(driver.hear("RENEWED", "LOST").verb(), "RENEWED"); }
  release(driver);
}

class EtcdWithTls : public Etcd {
protected:
  EtcdSetup setup() const override { return {1, {}, true}; }
  std::string file(const char* name) const { return (etcd->directory() / name).string(); }

  Message answer(const std::string& parameters) const
  {
    EngineDriver driver = engine_at(etcd->url("lock?") + parameters);
    driver.acquire();
    const Message said = driver.hear("HELD", "FAIL");
    if (said.is("HELD")) { release(driver); }
    return said;
  }
};

TEST_F(EtcdWithTls, IsSpokenToWithCertificates)
{
  const std::string pair = "&cert=" + file("client.pem") + "&key=" + file("client-key.pem");
  EXPECT_EQ(answer("cacert=" + file("ca.pem") + pair).verb(), "HELD");

  const Message distrusted = answer("cacert=" + file("other-ca.pem") + pair);
  EXPECT_EQ(text(distrusted, "reason"), "tls");
  EXPECT_THAT(text(distrusted, "text"), HasSubstr("its certificate is not trusted: "));
  EXPECT_EQ(text(answer("cacert=" + file("ca.pem")), "reason"), "tls"); // the server wants one of ours
  EXPECT_EQ(text(answer("cacert=/nowhere.pem"), "reason"), "tls");
  EXPECT_EQ(text(answer("tls=yes"), "reason"), "tls"); // the system does not know this authority
  EXPECT_EQ(text(answer("tls=no"), "text"),
    "cannot reach etcd: " + etcd->endpoint(0) + ": it closed the connection, perhaps it wants TLS");
}

TEST_F(EtcdWithTls, SaysThatACertificateMayNotNameTheUser)
{
  for (const std::vector<std::string>& step : std::vector<std::vector<std::string>>{
         {"user", "add", "root:rootpw"}, {"user", "grant-role", "root", "root"}, {"auth", "enable"}}) {
    ASSERT_EQ(etcd->etcdctl(step).status, exited(0)) << step[0];
  }
  const Message failure =
    answer("cacert=" + file("ca.pem") + "&cert=" + file("client.pem") + "&key=" + file("client-key.pem"));
  EXPECT_EQ(text(failure, "reason"), "authentication");
  EXPECT_THAT(text(failure, "text"), HasSubstr("refuses certificates with a common name"));
}

// It takes a tenth of a call's time to read what is in openssl.cnf, which is nothing for most.
TEST_F(EtcdWithTls, ReadsSettingsOfOpensslOnlyFromAFileThatTheUserNames)
{
  const TempDir dir;
  const auto settings = write_file(dir / "openssl.cnf",
    "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = old\n[old]\nMaxProtocol = TLSv1.1\n");
  const std::string url =
    etcd->url("lock?cacert=") + file("ca.pem") + "&cert=" + file("client.pem") + "&key=" + file("client-key.pem");
  Start named;
  named.environment["OPENSSL_CONF"] = settings.string();
  EngineDriver driver = engine_at(url, named);
  driver.acquire("wait_ms=3000");
  EXPECT_THAT(text(driver.hear("FAIL", "HELD"), "text"), HasSubstr("no protocols available"));

  if (::geteuid() != 0) { GTEST_SKIP() << "only root can have another openssl.cnf for all"; }
  const auto system = std::filesystem::path("/usr/lib/ssl/openssl.cnf");
  if (!std::filesystem::exists(system)) { GTEST_SKIP() << "there is no " << system; }
  Start all;
  all.environment["OPENSSL_CONF"] = std::nullopt;
  all.before_exec.push_back([&] {
    (void)::unshare(CLONE_NEWNS);
    (void)::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    if (::mount(settings.c_str(), system.c_str(), nullptr, MS_BIND, nullptr) != 0) { ::_exit(99); }
  });
  EngineDriver other = engine_at(url, all);
  other.acquire();
  EXPECT_TRUE(other.hear("HELD", "FAIL").is("HELD"));
}

TEST_F(EtcdWithTls, WaitsAndRenews)
{
  const std::string url =
    etcd->url("lock?cacert=") + file("ca.pem") + "&cert=" + file("client.pem") + "&key=" + file("client-key.pem");
  EngineDriver first = engine_at(url);
  first.acquire("ttl_ms=6000");
  ASSERT_TRUE(first.hear("HELD", "FAIL").is("HELD"));
  EngineDriver second = engine_at(url);
  second.acquire();
  ASSERT_TRUE(second.hear("WAITING", "FAIL").is("WAITING"));
  ASSERT_TRUE(first.hear("RENEWED", "LOST").is("RENEWED"));
  release(first);
  EXPECT_TRUE(second.hear("HELD").is("HELD"));
}

} // namespace
} // namespace lockrun::testing
