#include "support/engine_driver.hpp"
#include "support/etcd_servers.hpp"
#include "support/eventually.hpp"
#include "support/temp_dir.hpp"

#include "sys/clock.hpp"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

// The engine program against a real server.
namespace lockrun::testing {
namespace {

using protocol::Message;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr const char* k_loss = "its key was deleted, or its lease was revoked or has expired";

std::string text(const Message& message, const char* key)
{
  return std::string(message.text(key).value_or(""));
}

std::int64_t number(const Message& message, const char* key)
{
  return message.number(key).value_or(-1);
}

class Etcd : public ::testing::Test {
protected:
  void SetUp() override
  {
    if (const auto reason = no_etcd()) { GTEST_SKIP() << *reason; }
    etcd.emplace(setup());
  }

  virtual EtcdSetup setup() const { return {}; }

  EngineDriver engine(const std::string& name = "lock") const { return engine_at(etcd->url(name)); }

  static EngineDriver engine_at(const std::string& url, Start start = {})
  {
    start.err = k_inherited;
    start.environment.try_emplace("ETCDCTL_USER", std::nullopt);
    return {LOCKRUN_ENGINE, url, start};
  }

  static const Redirect k_inherited;

  // Holds it, without waiting.
  EngineDriver holder(const std::string& wishes = {}, const std::string& name = "lock") const
  {
    EngineDriver driver = engine(name);
    driver.acquire(wishes);
    const Message answer = driver.hear("HELD", "FAIL");
    EXPECT_TRUE(answer.is("HELD")) << format(answer);
    return driver;
  }

  // Waits, and is in the queue.
  EngineDriver waiter(const std::string& wishes = {}) const
  {
    EngineDriver driver = engine();
    driver.acquire(wishes);
    EXPECT_TRUE(driver.hear("WAITING", "HELD").is("WAITING"));
    return driver;
  }

  Message failure_of(const std::string& wishes) const
  {
    EngineDriver driver = engine();
    driver.acquire(wishes);
    const Message failure = driver.hear("FAIL", "HELD");
    driver.hang_up();
    (void)driver.wait(); // it leaves the queue
    return failure;
  }

  static void release(EngineDriver& driver)
  {
    driver.say("RELEASE");
    EXPECT_TRUE(driver.hear("RELEASED").is("RELEASED"));
    EXPECT_EQ(driver.wait(), exited(0));
  }

  std::optional<EtcdServers> etcd;
};
const Redirect Etcd::k_inherited{Redirect::Kind::inherited};

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
