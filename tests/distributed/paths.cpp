#include "paths.hpp"

#include <fmt/format.h>

namespace lockrun::testing {
namespace {

using std::chrono::milliseconds;

constexpr const char* k_name_server = "127.0.0.1";
constexpr int k_port = 2379; // of all addresses

std::string address_of(std::size_t server)
{
  return fmt::format("10.78.0.{}", server + 1);
}

std::vector<std::string> addresses_of(const EtcdServers& etcd)
{
  std::vector<std::string> addresses;
  for (int node = 0; node < etcd.size(); ++node) { addresses.push_back(address_of(static_cast<std::size_t>(node))); }
  return addresses;
}

template <class Proxy>
std::string list(const std::vector<std::unique_ptr<Proxy>>& proxies)
{
  std::string endpoints;
  for (const auto& proxy : proxies) { endpoints += (endpoints.empty() ? "" : ",") + proxy->endpoint(); }
  return endpoints;
}

} // namespace

Proxies::Proxies(const EtcdServers& etcd, std::size_t workers) : m_proxies(workers)
{
  for (std::size_t worker = 0; worker < workers; ++worker) {
    for (int node = 0; node < etcd.size(); ++node) {
      m_proxies[worker].push_back(std::make_unique<EtcdProxy>(
        etcd.endpoint(node), [this, worker](const EtcdProxy::Request& request) { return judge(worker, request); }));
    }
  }
}

std::string Proxies::endpoints(std::size_t worker) const
{
  return list(m_proxies[worker]);
}

Proxies::Fate Proxies::judge(std::size_t worker, const EtcdProxy::Request& request)
{
  const std::lock_guard guard(m_mutex);
  const Fate fate = m_judge ? m_judge(worker, request) : Fate::pass;
  if (fate != Fate::pass) { ++m_hits; }
  return fate;
}

void Proxies::obey(Judge judge)
{
  const std::lock_guard guard(m_mutex);
  m_judge = std::move(judge);
}

void Proxies::pass()
{
  obey({});
}

void Proxies::deliver()
{
  for (const auto& proxies : m_proxies) {
    for (const auto& proxy : proxies) { (void)proxy->deliver(); } // whatever the server says: the client is gone
  }
}

void Proxies::let_go()
{
  for (const auto& proxies : m_proxies) {
    for (const auto& proxy : proxies) { proxy->let_go(); }
  }
}

SlowPaths::SlowPaths(const EtcdServers& etcd, Dice& dice)
{
  for (int node = 0; node < etcd.size(); ++node) {
    m_proxies.push_back(std::make_unique<SlowProxy>(etcd.endpoint(node), [this, &dice] { return delay(dice); }));
  }
}

std::string SlowPaths::endpoints() const
{
  return list(m_proxies);
}

milliseconds SlowPaths::delay(Dice& dice)
{
  const int longest = m_longest;
  if (longest == 0) { return milliseconds(0); }
  ++m_hits;
  return dice.time(0, longest);
}

NamedPaths::NamedPaths(const EtcdServers& etcd, const OwnNetwork& network)
  : m_network(network), m_names(k_name_server, always(addresses_of(etcd)))
{
  for (int node = 0; node < etcd.size(); ++node) {
    const std::string address = address_of(static_cast<std::size_t>(node));
    m_network.add(address);
    m_proxies.push_back(std::make_unique<SlowProxy>(
      etcd.endpoint(node), [] { return milliseconds(0); }, address, k_port));
  }
}

NamedPaths::~NamedPaths()
{
  for (std::size_t i = 0; i < size(); ++i) { silence(i); }
}

std::string NamedPaths::endpoints() const
{
  return fmt::format("etcd.test:{}", k_port);
}

Start NamedPaths::start() const
{
  Start start = with_name_servers(m_directory, {k_name_server});
  start.environment["RES_OPTIONS"] = std::nullopt;
  return start;
}

std::size_t NamedPaths::most_used() const
{
  std::size_t most = 0;
  for (std::size_t i = 1; i < size(); ++i) {
    if (connections(i) > connections(most)) { most = i; }
  }
  return most;
}

void NamedPaths::silence(std::size_t address) const
{
  m_network.remove(address_of(address));
}

void NamedPaths::heal(std::size_t address) const
{
  m_network.add(address_of(address));
}

} // namespace lockrun::testing
