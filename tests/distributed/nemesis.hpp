#pragma once

#include "crew.hpp"
#include "paths.hpp"

#include "support/etcd_servers.hpp"
#include "support/network.hpp"
#include "support/wall_clock.hpp"

#include <chrono>
#include <functional>
#include <vector>

namespace lockrun::testing {

// What a nemesis finds.
struct Scene {
  EtcdServers& etcd;
  Network* network;      // if it needs one
  WallClock* wall_clock; // if it needs one
  Proxies* proxies;      // if it needs them
  SlowPaths* slow_paths;
  NamedPaths* named_paths;
  const Crew& crew;
  Dice& dice;
  int longest; // that something stays broken, in milliseconds

  // Something goes on for a while; there is no event to wait for.
  void pause(std::chrono::milliseconds time) const { std::this_thread::sleep_for(time); }
  std::chrono::milliseconds outage() const { return dice.time(500, longest); }

  // Half of the time one who is at it for long, if there is one.
  const Worker& somebody() const;
  // None, if there is none soon.
  const Worker* one_who(bool (Worker::*is_wanted)() const) const;
};

// One thing that goes wrong.
struct Nemesis {
  enum class Needs { nothing, network, resets, wall_clock, proxies, slow_paths, named_paths };
  const char* name;
  Needs needs;
  bool is_covered;                          // by the promise: no two at once
  std::function<void(const Scene&)> strike; // all is well again when it returns
};
const std::vector<Nemesis>& nemeses();

} // namespace lockrun::testing
