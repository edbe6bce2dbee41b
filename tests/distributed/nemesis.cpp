#include "nemesis.hpp"

#include <algorithm>
#include <csignal>

#include <fmt/format.h>

namespace lockrun::testing {

using std::chrono::milliseconds;

namespace {

using Strike = std::function<void(const Scene&)>;
using Process = pid_t (Worker::*)() const;

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
  };
  return all;
}

} // namespace lockrun::testing
