#include "crew.hpp"
#include "log_checker.hpp"
#include "nemesis.hpp"
#include "paths.hpp"

#include "support/etcd_servers.hpp"
#include "support/eventually.hpp"
#include "support/network.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "support/wall_clock.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

// Workers loop `lockrun etcd://… ticker` on three servers while one nemesis acts. LOCKRUN_TORTURE_RUNS is how often
// (else once, and not for long), LOCKRUN_SEED makes the dice fall the same way again: that of a run is the seed plus
// its number. LOCKRUN_TORTURE_TOOL=etcdctl puts `etcdctl lock` in lockrun's place, of which nothing is expected, and
// tells how it did.
namespace lockrun::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using ::testing::IsEmpty;

constexpr std::size_t k_workers = 4;
constexpr seconds k_ttl{3};

std::optional<std::string> wanted(const char* variable)
{
  const char* const value = std::getenv(variable);
  return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
}

const bool k_is_long = wanted("LOCKRUN_TORTURE_RUNS").has_value();
const bool k_is_etcdctl = wanted("LOCKRUN_TORTURE_TOOL") == "etcdctl";

// TTL, an election and two seconds; the short form is for machines that have other things to do.
constexpr seconds k_strict_limit{7};
const seconds k_progress = k_is_long && !k_is_etcdctl ? k_strict_limit : seconds(60);

std::optional<std::string> what_lacks(Nemesis::Needs needs)
{
  auto reason = no_etcd();
  const bool needs_network =
    needs == Nemesis::Needs::network || needs == Nemesis::Needs::resets || needs == Nemesis::Needs::named_paths;
  if (!reason && needs_network) { reason = no_network(); }
  if (!reason && needs == Nemesis::Needs::resets) { reason = no_resets(); }
  if (!reason && needs == Nemesis::Needs::proxies && k_is_etcdctl) { reason = "etcdctl does not speak HTTP"; }
  return reason;
}

struct Tally {
  int runs = 0;
  std::size_t sections = 0;
  std::size_t overlaps = 0;
  std::size_t stale = 0;
  std::size_t refused = 0;
  int lost = 0;
  milliseconds slowest{0}; // progress after all was well again
};

// What the nemesis needs between workers and servers, for one run.
struct Paths {
  Paths(Nemesis::Needs needs, const EtcdServers& etcd, const std::optional<OwnNetwork>& network, Dice& dice)
    : straight(etcd.endpoints())
  {
    if (needs == Nemesis::Needs::proxies) { proxies.emplace(etcd, k_workers); }
    if (needs == Nemesis::Needs::slow_paths) { slow.emplace(etcd, dice); }
    if (needs == Nemesis::Needs::named_paths) { named.emplace(etcd, *network); }
  }
  std::string endpoints(std::size_t worker) const
  {
    if (proxies) { return proxies->endpoints(worker); }
    if (slow) { return slow->endpoints(); }
    return named ? named->endpoints() : straight;
  }

  std::string straight;
  std::optional<Proxies> proxies;
  std::optional<SlowPaths> slow;
  std::optional<NamedPaths> named;
};

class Torture : public ::testing::TestWithParam<Nemesis> {
protected:
  void SetUp() override
  {
    if (const auto reason = what_lacks(GetParam().needs)) { GTEST_SKIP() << *reason; }
    EtcdSetup setup;
    setup.nodes = 3;
    setup.options = {"--heartbeat-interval=100", "--election-timeout=1000"};
    if (GetParam().needs == Nemesis::Needs::network || GetParam().needs == Nemesis::Needs::resets) {
      setup.network = &m_network.emplace(std::vector<std::string>{"n0", "n1", "n2", "client"});
    }
    if (GetParam().needs == Nemesis::Needs::wall_clock) { m_wall_clock.emplace(); }
    if (GetParam().needs == Nemesis::Needs::named_paths) { m_own_network.emplace(); }
    m_etcd.emplace(setup);
  }

  std::vector<std::string> tool(const std::string& endpoints) const
  {
    std::vector<std::string> argv = m_network ? m_network->run_on("client") : std::vector<std::string>();
    const auto words = k_is_etcdctl
                         ? std::vector<std::string>{"env", "ETCDCTL_API=3", "etcdctl", "--endpoints=" + endpoints,
                             "lock", "torture", fmt::format("--ttl={}", k_ttl.count())}
                         : lockrun_argv({fmt::format("etcd://{}/torture?ttl={}s", endpoints, k_ttl.count())});
    argv.insert(argv.end(), words.begin(), words.end());
    return argv;
  }

  // For those who look for what went wrong.
  std::string state(const std::string& log) const
  {
    std::string text = read_file(log + ".err") + m_etcd->etcdctl({"endpoint", "status"}).out;
    for (const std::string& key : m_etcd->keys("")) { text += key + "\n"; }
    for (const std::string& lease : m_etcd->leases()) {
      text += m_etcd->etcdctl({"lease", "timetolive", lease, "--keys"}).out;
    }
    return text;
  }

  void run(unsigned seed)
  {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    const Nemesis& nemesis = GetParam();
    Dice dice(seed);
    const TempDir dir;
    const std::string log = (dir / "log").string();
    const int longest = k_is_long ? 9'000 : 4'500; // longer than a lock lasts that nobody renews
    Paths paths(nemesis.needs, *m_etcd, m_own_network, dice);
    std::vector<Task> tasks;
    for (std::size_t worker = 0; worker < k_workers; ++worker) {
      Task& task = tasks.emplace_back(Task{tool(paths.endpoints(worker)), {}, log, k_is_long ? 6'000 : 4'000});
      if (m_wall_clock) { task.start.environment = m_wall_clock->environment(); }
      if (paths.named) { task.start = paths.named->start(); }
    }
    Crew crew(std::move(tasks), dice);
    const auto pointer_to = [](auto& optional) { return optional ? &*optional : nullptr; };
    const Scene scene{*m_etcd, pointer_to(m_network), pointer_to(m_wall_clock), pointer_to(paths.proxies),
      pointer_to(paths.slow), pointer_to(paths.named), crew, dice, longest};

    EXPECT_TRUE(eventually([&] { return crew.done() > 0; }, seconds(60))) << state(log);
    scene.pause(dice.time(0, 1'000));
    nemesis.strike(scene);

    // All is well again: somebody is at it soon, and is done with it (there may be long sections in the queue).
    const auto well_again = steady_clock::now();
    const std::size_t before = read_file(log).size();
    EXPECT_TRUE(eventually([&] { return read_file(log).size() > before; }, k_progress)) << state(log);
    m_tally.slowest =
      std::max(m_tally.slowest, std::chrono::duration_cast<milliseconds>(steady_clock::now() - well_again));
    const int done = crew.done();
    EXPECT_TRUE(eventually([&] { return crew.done() > done; }, seconds(60))) << state(log);
    crew.finish();

    const LogVerdict verdict = check_log(read_file(log));
    EXPECT_FALSE(crew.is_confused()) << read_file(log + ".err");
    EXPECT_THAT(verdict.oddities, IsEmpty());
    // Killed clients leave their leases to the server, which takes back the keys with them.
    EXPECT_TRUE(eventually([&] { return m_etcd->leases().empty(); }, seconds(60)) || k_is_etcdctl) << "leases are left";
    ++m_tally.runs;
    m_tally.sections += verdict.sections;
    m_tally.overlaps += verdict.overlaps.size();
    m_tally.stale += verdict.stale.size();
    m_tally.refused += verdict.refused;
    m_tally.lost += crew.lost();
    if (k_is_etcdctl) { return; }
    EXPECT_THAT(leftovers({"lockrun-epoch"}, m_etcd->keys("")), IsEmpty());
    EXPECT_THAT(verdict.stale, IsEmpty()); // whatever the nemesis
    if (!nemesis.is_covered) { return; }
    EXPECT_THAT(verdict.overlaps, IsEmpty());
    EXPECT_THAT(verdict.inversions, IsEmpty());
    EXPECT_EQ(verdict.refused, 0U);
  }

  std::optional<Network> m_network;
  std::optional<WallClock> m_wall_clock;
  std::optional<OwnNetwork> m_own_network;
  std::optional<EtcdServers> m_etcd;
  Tally m_tally;
};

TEST_P(Torture, NeverLetsTwoAtItAtOnce)
{
  const auto seed_wanted = wanted("LOCKRUN_SEED");
  const auto seed = seed_wanted ? static_cast<unsigned>(std::stoul(*seed_wanted)) : std::random_device()();
  const int runs = std::max(1, std::atoi(wanted("LOCKRUN_TORTURE_RUNS").value_or("1").c_str()));
  for (int i = 0; i < runs && !(HasFailure() && !k_is_long); ++i) { run(seed + static_cast<unsigned>(i)); }
  if (m_wall_clock) { EXPECT_GT(m_wall_clock->looks(), 0) << "nobody has seen our clock"; }
  if (k_is_long) {
    fmt::print(
      "{:<22} {:>3} runs, {:>5} sections, {} overlaps, {} writes of latecomers refused, {} taken, {} calls lost "
      "the lock, at it again after {} ms at most\n",
      GetParam().name, m_tally.runs, m_tally.sections, m_tally.overlaps, m_tally.refused, m_tally.stale, m_tally.lost,
      m_tally.slowest.count());
    std::fflush(stdout);
  }
}

INSTANTIATE_TEST_SUITE_P(
  While, Torture, ::testing::ValuesIn(nemeses()), [](const auto& one) { return std::string(one.param.name); });

} // namespace
} // namespace lockrun::testing
