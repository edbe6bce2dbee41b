#pragma once

#include "crew.hpp"

#include "support/etcd_proxy.hpp"
#include "support/etcd_servers.hpp"
#include "support/name_server.hpp"
#include "support/network.hpp"
#include "support/scripted_server.hpp"
#include "support/temp_dir.hpp"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace lockrun::testing {

// What can be put between workers and servers. Each has endpoints for a worker's URL.

// Each worker has a proxy of its own for each of the servers, and one judge decides about all their requests.
class Proxies {
public:
  using Fate = EtcdProxy::Fate;
  using Judge = std::function<Fate(std::size_t worker, const EtcdProxy::Request&)>; // called by one thread at a time

  Proxies(const EtcdServers& etcd, std::size_t workers);

  std::string endpoints(std::size_t worker) const;
  void obey(Judge judge); // from now on
  void pass();            // everything from now on
  void deliver();         // what is kept
  void let_go();
  int hits() const { return m_hits; } // requests that were not passed

private:
  Fate judge(std::size_t worker, const EtcdProxy::Request& request);

  std::mutex m_mutex;
  Judge m_judge;
  std::atomic<int> m_hits{0};
  std::vector<std::vector<std::unique_ptr<EtcdProxy>>> m_proxies; // of each worker; the last: they call us
};

// Servers whose answers come late.
class SlowPaths {
public:
  SlowPaths(const EtcdServers& etcd, Dice& dice);

  std::string endpoints() const;
  void slow_down(std::chrono::milliseconds longest) { m_longest = static_cast<int>(longest.count()); } // 0: no more
  int hits() const { return m_hits; } // pieces of answers that came late

private:
  std::chrono::milliseconds delay(Dice& dice);

  std::atomic<int> m_longest{0};
  std::atomic<int> m_hits{0};
  std::vector<std::unique_ptr<SlowProxy>> m_proxies; // the last: they call us
};

// One name for all of the servers, each of which has an address of its own.
class NamedPaths {
public:
  NamedPaths(const EtcdServers& etcd, const OwnNetwork& network);
  ~NamedPaths();
  NamedPaths(const NamedPaths&) = delete;
  NamedPaths& operator=(const NamedPaths&) = delete;

  std::string endpoints() const;
  Start start() const; // of those that are to know the name

  std::size_t size() const { return m_proxies.size(); }
  int connections(std::size_t address) const { return m_proxies[address]->connections(); } // so far
  std::size_t most_used() const;
  void silence(std::size_t address) const;
  void heal(std::size_t address) const;

private:
  const OwnNetwork& m_network;
  TempDir m_directory;
  NameServer m_names;
  std::vector<std::unique_ptr<SlowProxy>> m_proxies;
};

} // namespace lockrun::testing
