#include "nemesis.hpp"

#include "support/eventually.hpp"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace lockrun::testing {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

namespace {

using Strike = std::function<void(const Scene&)>;
using Process = pid_t (Worker::*)() const;
using Fate = Proxies::Fate;
using Request = EtcdProxy::Request;

constexpr seconds k_patience{60};            // until something has happened that it needs
constexpr milliseconds k_longest_delay{400}; // more than a tenth of the time to live
constexpr const char* k_grant = "/v3/lease/grant";
constexpr const char* k_keepalive = "/v3/lease/keepalive";
constexpr const char* k_revoke = "/v3/lease/revoke";
constexpr const char* k_txn = "/v3/kv/txn";
constexpr const char* k_watch = "/v3/watch";

void kill_one(pid_t pid, const Scene& scene)
{
  if (pid > 0) { (void)::kill(pid, SIGKILL); } // it may just have ended
  scene.pause(scene.dice.time(100, 1'500));
}

void freeze(const std::vector<pid_t>& pids, const Scene& scene)
{
  for (const pid_t pid : pids) {
    if (pid > 0) { (void)::kill(pid, SIGSTOP); }
  }
  scene.pause(scene.outage());
  for (const pid_t pid : pids) {
    if (pid > 0) { (void)::kill(pid, SIGCONT); }
  }
}

Strike kills(Process which)
{
  return [which](const Scene& scene) { kill_one((scene.somebody().*which)(), scene); };
}

Strike freezes(Process which)
{
  return [which](const Scene& scene) { freeze({(scene.somebody().*which)()}, scene); };
}

void kill_leader(const Scene& scene)
{
  const int leader = scene.etcd.leader();
  if (leader < 0) { return; }
  scene.etcd.kill(leader);
  scene.pause(scene.outage());
  scene.etcd.start(leader);
}

void freeze_leader(const Scene& scene)
{
  const int leader = scene.etcd.leader();
  if (leader < 0) { return; }
  scene.etcd.signal(leader, SIGSTOP);
  scene.pause(scene.outage());
  scene.etcd.signal(leader, SIGCONT);
}

void restart_servers(const Scene& scene)
{
  scene.etcd.kill_all();
  scene.pause(scene.dice.time(0, 2'000));
  scene.etcd.start_all();
}

void kill_waiter(const Scene& scene)
{
  const Worker* const waiter = scene.one_who(&Worker::waits);
  if (waiter == nullptr) { return; }
  kill_one(scene.dice.roll(0, 1) == 0 ? waiter->lockrun() : waiter->engine(), scene);
}

// Its turn comes meanwhile, and goes.
void freeze_waiter(const Scene& scene)
{
  const Worker* const waiter = scene.one_who(&Worker::waits);
  if (waiter == nullptr) { return; }
  const int which = scene.dice.roll(0, 2);
  freeze({which == 1 ? 0 : waiter->lockrun(), which == 0 ? 0 : waiter->engine()}, scene);
}

// As a suspended host, but worse: the command runs on while nobody can end it.
void suspend(const Scene& scene)
{
  const Worker* const worker = scene.one_who(&Worker::is_at_it_for_long);
  if (worker != nullptr) { freeze({worker->lockrun(), worker->twin(), worker->engine()}, scene); }
}

// As `kill -9 %1` in a shell.
void kill_group(const Scene& scene)
{
  const pid_t group = scene.somebody().lockrun();
  if (group > 0) { (void)::kill(-group, SIGKILL); }
  scene.pause(scene.dice.time(100, 1'500));
}

// As `pkill -9 lockrun`, but of our own descendants only.
void kill_by_name(const Scene& scene)
{
  for (const pid_t pid : descendants()) {
    if (name_of(pid).find("lockrun") != std::string::npos) { (void)::kill(pid, SIGKILL); }
  }
  scene.pause(scene.dice.time(100, 1'500));
}

void revoke_lease(const Scene& scene)
{
  const auto leases = scene.etcd.leases();
  if (leases.empty()) { return; }
  const auto index = static_cast<std::size_t>(scene.dice.roll(0, static_cast<int>(leases.size()) - 1));
  (void)scene.etcd.etcdctl({"lease", "revoke", leases[index]});
  scene.pause(scene.dice.time(100, 1'500));
}

// Breaks the network of `host`, or of the leader, for a while.
Strike breaks(void (Network::*how)(const std::string&), const char* host)
{
  return [how, host](const Scene& scene) {
    const int leader = host == nullptr ? scene.etcd.leader() : 0;
    if (leader < 0) { return; }
    (scene.network->*how)(host != nullptr ? host : fmt::format("n{}", leader));
    scene.pause(scene.outage());
    scene.network->heal();
  };
}

void reset_connections(const Scene& scene)
{
  for (int i = scene.dice.roll(1, 10); i > 0; --i) {
    scene.network->reset("client");
    scene.pause(scene.dice.time(0, 500));
  }
}

void jump(const Scene& scene)
{
  for (int i = scene.dice.roll(2, 5); i > 0; --i) {
    scene.wall_clock->set(std::chrono::hours(scene.dice.roll(-10'000, 10'000)));
    scene.pause(scene.dice.time(100, 1'000));
  }
}

// Any answer, once the server has done what it was asked for.
void lose_answers(const Scene& scene)
{
  scene.proxies->obey([&scene](std::size_t, const Request&) {
    const int roll = scene.dice.roll(0, 7);
    return roll == 0 ? Fate::lose_answer : roll == 1 ? Fate::swallow : Fate::pass;
  });
  scene.pause(scene.outage());
  EXPECT_TRUE(eventually([&] { return scene.proxies->hits() > 0; }, k_patience));
  scene.proxies->pass();
}

// The number in `"ID":"12"`.
std::string lease_in(const std::string& body)
{
  const std::string start = "\"ID\":\"";
  const auto at = body.find(start);
  if (at == std::string::npos) { return {}; }
  const auto from = at + start.size();
  return body.substr(from, body.find('"', from) - from);
}

// One call's lease is granted and its key is made while it hears nothing of it; and from then on nothing renews it.
void lose_grant(const Scene& scene)
{
  struct Victim {
    std::atomic<const Worker*> worker{nullptr};
    int ended = 0; // of its calls, when it was chosen
    std::string lease;
    steady_clock::time_point silent_until;
  } victim;
  const milliseconds silence = scene.dice.time(500, 2'000);
  scene.proxies->obey([&](std::size_t index, const Request& request) {
    const Worker* const worker = scene.crew.workers()[index].get();
    const std::string lease = lease_in(request.body);
    if (request.path == k_grant && victim.worker == nullptr && worker->is_long()) {
      victim.ended = worker->ended();
      victim.lease = lease;
      victim.silent_until = steady_clock::now() + silence;
      victim.worker = worker;
    }
    if (victim.worker != worker || lease != victim.lease) { return Fate::pass; }
    if (request.path == k_grant && steady_clock::now() < victim.silent_until) { return Fate::swallow; }
    return request.path == k_keepalive ? Fate::lose_request : Fate::pass;
  });
  EXPECT_TRUE(eventually([&] { return victim.worker != nullptr; }, k_patience));
  if (victim.worker != nullptr) {
    EXPECT_TRUE(eventually([&] { return victim.worker.load()->ended() > victim.ended; }, k_patience));
  }
  scene.proxies->pass();
  EXPECT_GT(scene.proxies->hits(), 0);
}

// What a holder writes is stuck until its key is on another lease; and it cannot get rid of the former one, and is not
// told what happens to its key. What others ask for is stuck now and then.
void hold_back_writes(const Scene& scene)
{
  struct Victim {
    std::atomic<const Worker*> worker{nullptr};
    int ended = 0; // of its calls, when it was chosen
    std::atomic<int> later{0};
  } victim;
  scene.proxies->obey([&](std::size_t index, const Request& request) {
    const Worker* const worker = scene.crew.workers()[index].get();
    const bool is_write = request.path == k_txn;
    if (is_write && victim.worker == nullptr && worker->is_at_it_for_long()) {
      victim.ended = worker->ended();
      victim.worker = worker;
      return Fate::keep;
    }
    if (victim.worker != worker) {
      const bool is_stuck = (is_write || request.path == k_grant) && scene.dice.roll(0, 9) == 0;
      return is_stuck ? Fate::hold_back : Fate::pass;
    }
    if (is_write) { ++victim.later; }
    return request.path == k_revoke || request.path == k_watch ? Fate::lose_request : Fate::pass;
  });
  EXPECT_TRUE(eventually([&] { return victim.worker != nullptr; }, k_patience));
  if (victim.worker != nullptr) {
    const auto is_over = [&] { return victim.worker.load()->ended() > victim.ended; };
    EXPECT_TRUE(eventually([&] { return victim.later > 0 || is_over(); }, k_patience)); // it has been repeated
    const int later = victim.later;
    scene.etcd.move_leader();
    EXPECT_TRUE(eventually([&] { return victim.later > later || is_over(); }, k_patience));
    scene.pause(scene.dice.time(0, 300));
    scene.proxies->deliver();
    EXPECT_TRUE(eventually(is_over, k_patience));
  }
  scene.proxies->let_go();
  scene.proxies->pass();
  EXPECT_GT(scene.proxies->hits(), 0);
}

void slow_down(const Scene& scene)
{
  scene.slow_paths->slow_down(k_longest_delay);
  const int done = scene.crew.done();
  scene.pause(scene.outage());
  EXPECT_TRUE(eventually([&] { return scene.crew.done() > done; }, k_patience)) << "no progress while it is slow";
  scene.slow_paths->slow_down(milliseconds(0));
  EXPECT_GT(scene.slow_paths->hits(), 0);
}

void silence_address(const Scene& scene)
{
  const NamedPaths& paths = *scene.named_paths;
  const std::size_t address = paths.most_used();
  EXPECT_GT(paths.connections(address), 0);
  paths.silence(address);
  const int done = scene.crew.done();
  scene.pause(scene.outage());
  EXPECT_TRUE(eventually([&] { return scene.crew.done() > done; }, k_patience)) << "no progress without that address";
  paths.heal(address);
}

} // namespace

const Worker& Scene::somebody() const
{
  const auto& workers = crew.workers();
  if (dice.roll(0, 1) == 0) {
    for (const auto& worker : workers) {
      if (worker->is_at_it_for_long()) { return *worker; }
    }
  }
  return *workers[static_cast<std::size_t>(dice.roll(0, static_cast<int>(workers.size()) - 1))];
}

const Worker* Scene::one_who(bool (Worker::*is_wanted)() const) const
{
  for (int tries = 0; tries < 1'000; ++tries) {
    for (const auto& worker : crew.workers()) {
      if (((*worker).*is_wanted)()) { return worker.get(); }
    }
    pause(milliseconds(5));
  }
  return nullptr;
}

const std::vector<Nemesis>& nemeses()
{
  using Needs = Nemesis::Needs;
  static const std::vector<Nemesis> all{
    {"nobody", Needs::nothing, true, [](const Scene& scene) { scene.pause(milliseconds(1'000)); }},
    {"kills_the_leader", Needs::nothing, true, kill_leader},
    {"freezes_the_leader", Needs::nothing, true, freeze_leader},
    {"restarts_the_servers", Needs::nothing, true, restart_servers},
    {"freezes_the_engine", Needs::nothing, true, freezes(&Worker::engine)},
    {"freezes_lockrun", Needs::nothing, true, freezes(&Worker::lockrun)},
    {"freezes_the_twin", Needs::nothing, true, freezes(&Worker::twin)},
    {"freezes_all_three", Needs::nothing, false, suspend},
    {"freezes_a_waiter", Needs::nothing, true, freeze_waiter},
    {"kills_the_engine", Needs::nothing, true, kills(&Worker::engine)},
    {"kills_lockrun", Needs::nothing, true, kills(&Worker::lockrun)},
    {"kills_the_twin", Needs::nothing, true, kills(&Worker::twin)},
    {"kills_the_process_group", Needs::nothing, true, kill_group},
    {"kills_by_name", Needs::nothing, true, kill_by_name},
    {"kills_a_waiter", Needs::nothing, true, kill_waiter},
    {"revokes_a_lease", Needs::nothing, false, revoke_lease}, // an administrator's word counts at once
    {"cuts_off_the_leader", Needs::network, true, breaks(&Network::cut_off, nullptr)},
    {"silences_the_leader", Needs::network, true, breaks(&Network::silence, nullptr)},
    {"cuts_off_the_client", Needs::network, true, breaks(&Network::cut_off, "client")},
    {"silences_the_client", Needs::network, true, breaks(&Network::silence, "client")},
    {"deafens_the_client", Needs::network, true, breaks(&Network::deafen, "client")},
    {"resets_the_client", Needs::resets, true, reset_connections},
    {"moves_the_wall_clock", Needs::wall_clock, true, jump},
    {"loses_answers", Needs::proxies, true, lose_answers},
    {"loses_a_grants_answer", Needs::proxies, true, lose_grant},
    {"holds_back_writes", Needs::proxies, true, hold_back_writes},
    {"silences_an_address", Needs::named_paths, true, silence_address},
    {"slows_the_servers_down", Needs::slow_paths, true, slow_down},
  };
  return all;
}

} // namespace lockrun::testing
