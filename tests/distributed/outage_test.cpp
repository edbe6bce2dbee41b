#include "support/etcd_servers.hpp"
#include "support/eventually.hpp"
#include "support/network.hpp"
#include "support/process.hpp"
#include "support/scripted_server.hpp"

#include "sys/clock.hpp"
#include "sys/poller.hpp"

#include <chrono>
#include <csignal>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

// What lockrun-engine-etcd(7) says of outages: half a time to live without a server ends no command, although it begins
// at the worst moment, just before a renewal. All with the time to live and the grace that one has without asking.
namespace lockrun::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Words = std::vector<std::string>;

constexpr milliseconds k_ttl{30'000};
constexpr milliseconds k_just_before{20};

// The time is what counts here: there is no event to wait for.
void await(std::chrono::nanoseconds moment)
{
  const auto poller = sys::Poller::create();
  ASSERT_TRUE(poller);
  ASSERT_TRUE(poller->wait({}, moment));
}

class Outage : public ::testing::Test {
protected:
  void SetUp() override
  {
    if (const auto reason = no_etcd()) { GTEST_SKIP() << *reason; }
  }

  // That is how a call ends whose command is there for as long as the lease with which it has begun.
  static void expect_end(WaitStatus status, const Words& argv, const std::function<void()>& begin_outage,
    const std::function<void()>& end_outage)
  {
    Start start;
    start.in = k_pipe;
    start.out = k_pipe;
    start.err = k_captured;
    Words words = argv;
    words.insert(words.end(), {"sh", "-c", "echo $LOCKRUN_DEADLINE; read -r _; exit 0"});
    Process call(words, start);
    const milliseconds deadline(std::stoll(call.out_line().value_or("0")));
    EXPECT_GT(deadline, milliseconds(0));
    await(deadline - k_ttl / 100 * 99 + k_ttl / 3 - k_just_before);
    begin_outage();
    await(sys::elapsed_now() + k_ttl / 2);
    end_outage();
    await(deadline);
    call.close_input();
    const Finished ended = call.wait();
    EXPECT_EQ(ended.status, status) << ended.err;
  }
};

TEST_F(Outage, DoesNoHarmWhenTheServerIsStopped)
{
  EtcdServers etcd;
  expect_end(
    exited(0), lockrun_argv({etcd.url("lock")}), [&] { etcd.signal(0, SIGSTOP); }, [&] { etcd.signal(0, SIGCONT); });
}

TEST_F(Outage, DoesNoHarmWhenConnectionsAreRefused)
{
  EtcdServers etcd;
  std::optional<SlowProxy> proxy;
  proxy.emplace(etcd.endpoint(0), milliseconds(0));
  const std::string endpoint = proxy->endpoint();
  const int port = std::stoi(endpoint.substr(endpoint.find(':') + 1));
  expect_end(
    exited(0), lockrun_argv({"etcd://" + endpoint + "/lock"}), [&] { proxy.reset(); },
    [&] { proxy.emplace(etcd.endpoint(0), milliseconds(0), port); });
}

TEST_F(Outage, DoesNoHarmWhenNothingGetsThrough)
{
  if (const auto reason = no_network()) { GTEST_SKIP() << *reason; }
  Network network({"n0", "client"});
  EtcdSetup setup;
  setup.network = &network;
  EtcdServers etcd(setup);
  Words argv = network.run_on("client");
  for (const std::string& word : lockrun_argv({etcd.url("lock")})) { argv.push_back(word); }
  expect_end(
    exited(0), argv, [&] { network.cut_off("n0"); }, [&] { network.heal(); });
}

TEST_F(Outage, DoesNoHarmWhenTheLeaderDies)
{
  EtcdServers etcd({3, {}, false});
  int leader = -1;
  ASSERT_TRUE(eventually([&] { return (leader = etcd.leader()) >= 0; }));
  expect_end(
    exited(0), lockrun_argv({etcd.url("lock")}), [&] { etcd.kill(leader); }, [&] { etcd.start(leader); });
}

// Whoever asks for time to end a command in has that much less for outages.
TEST_F(Outage, EndsACommandThatIsToHaveTimeToEndIn)
{
  EtcdServers etcd;
  expect_end(
    exited(76), lockrun_argv({"-k", "10s", etcd.url("lock")}), [&] { etcd.signal(0, SIGSTOP); },
    [&] { etcd.signal(0, SIGCONT); });
}

} // namespace
} // namespace lockrun::testing
