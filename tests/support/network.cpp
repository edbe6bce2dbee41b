#include "support/network.hpp"

#include "support/process.hpp"

#include <algorithm>
#include <cerrno>
#include <sched.h>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

Finished run_ip(const std::string& arguments)
{
  std::vector<std::string> argv{"ip"};
  std::istringstream words(arguments);
  for (std::string word; words >> word;) { argv.push_back(word); }
  return run_program(argv);
}

void need_ip(const std::string& arguments)
{
  const Finished done = run_ip(arguments);
  if (done.status != exited(0)) { throw std::runtime_error("ip " + arguments + ": " + done.err); }
}

} // namespace

std::optional<std::string> no_network()
{
  if (::geteuid() != 0) { return "only root can have network namespaces"; }
  if (run_program({"sh", "-c", "command -v ip"}).status != exited(0)) {
    return "ip is not installed (scripts/setup test)";
  }
  const std::string name = fmt::format("lockrun-{}-probe", ::getpid());
  const Finished made = run_ip("netns add " + name);
  const Finished bridged = run_ip(fmt::format("-n {} link add hub type bridge", name));
  (void)run_ip("netns del " + name);
  if (made.status != exited(0) || bridged.status != exited(0)) {
    return "this machine gives no network namespaces: " + made.err + bridged.err;
  }
  return std::nullopt;
}

std::optional<std::string> no_resets()
{
  if (run_program({"sh", "-c", "command -v ss"}).status != exited(0)) {
    return "ss is not installed (scripts/setup test)";
  }
  // A connection with ourselves tells whether this kernel does it (CONFIG_INET_DIAG_DESTROY); ss would not.
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int caller = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ::sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::socklen_t size = sizeof address;
  auto* const generic = reinterpret_cast<::sockaddr*>(&address);
  std::optional<std::string> reason = "this machine has no loopback network";
  if (::bind(listener, generic, size) == 0 && ::listen(listener, 1) == 0 &&
      ::getsockname(listener, generic, &size) == 0 && ::connect(caller, generic, size) == 0) {
    (void)run_program({"ss", "-K", "-t", "dport", "=", fmt::format(":{}", ntohs(address.sin_port))});
    char byte = 0;
    const bool is_reset = ::recv(caller, &byte, 1, MSG_DONTWAIT) < 0 && errno != EAGAIN;
    reason = is_reset ? std::nullopt : std::optional<std::string>("this machine does not let ss -K reset connections");
  }
  ::close(caller);
  ::close(listener);
  return reason;
}

Network::Network(const std::vector<std::string>& hosts)
  : m_prefix(fmt::format("lockrun-{}-", ::getpid())), m_hosts(hosts)
{
  ip("netns add " + space("hub"));
  ip(fmt::format("-n {} link add hub type bridge", space("hub")));
  ip(fmt::format("-n {} addr add 10.77.0.254/24 dev hub", space("hub")));
  ip(fmt::format("-n {} link set hub up", space("hub")));
  for (const std::string& host : m_hosts) {
    ip("netns add " + space(host));
    ip(fmt::format("-n {} link add {} type veth peer name wire netns {}", space("hub"), host, space(host)));
    ip(fmt::format("-n {} link set {} master hub", space("hub"), host));
    ip(fmt::format("-n {} link set {} up", space("hub"), host));
    ip(fmt::format("-n {} addr add {}/24 dev wire", space(host), address(host)));
    ip(fmt::format("-n {} link set wire up", space(host)));
    ip(fmt::format("-n {} link set lo up", space(host)));
  }
}

Network::~Network()
{
  for (const std::string& host : m_hosts) { (void)run_ip("netns del " + space(host)); }
  (void)run_ip("netns del " + space("hub"));
}

std::string Network::space(const std::string& name) const
{
  return m_prefix + name;
}

void Network::ip(const std::string& arguments) const
{
  need_ip(arguments);
}

std::string Network::address(const std::string& host) const
{
  return fmt::format("10.77.0.{}", std::find(m_hosts.begin(), m_hosts.end(), host) - m_hosts.begin() + 1);
}

std::vector<std::string> Network::run_on(const std::string& host) const
{
  return {"ip", "netns", "exec", space(host)};
}

std::vector<std::string> Network::run_on_hub() const
{
  return run_on("hub");
}

void Network::cut_off(const std::string& host)
{
  ip(fmt::format("-n {} link set {} down", space("hub"), host));
}

void Network::silence(const std::string& host)
{
  for (const std::string& other : m_hosts) {
    if (other != host) { misdirect(host, other); }
  }
}

void Network::deafen(const std::string& host)
{
  for (const std::string& other : m_hosts) {
    if (other != host) { misdirect(other, host); }
  }
}

void Network::reset(const std::string& host)
{
  for (const std::string& other : m_hosts) {
    if (other == host) { continue; }
    std::vector<std::string> argv = run_on(other);
    argv.insert(argv.end(), {"ss", "-K", "-t", "dst", address(host)});
    const Finished done = run_program(argv);
    if (done.status != exited(0)) { throw std::runtime_error("ss -K: " + done.err); }
  }
}

// What it sends there goes to a card that nobody has.
void Network::misdirect(const std::string& host, const std::string& other)
{
  ip(
    fmt::format("-n {} neigh replace {} lladdr 02:00:00:00:00:99 dev wire nud permanent", space(host), address(other)));
}

void Network::heal()
{
  for (const std::string& host : m_hosts) {
    ip(fmt::format("-n {} link set {} up", space("hub"), host));
    (void)run_ip(fmt::format("-n {} neigh flush dev wire nud permanent", space(host)));
  }
}

OwnNetwork::OwnNetwork() : m_former(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC))
{
  if (m_former < 0 || ::unshare(CLONE_NEWNET) != 0) {
    throw std::system_error(errno, std::generic_category(), "unshare");
  }
  need_ip("link set lo up");
  need_ip("link add wire type veth peer name end");
  need_ip("link set end up");
  need_ip("link set wire up arp off"); // so that nobody notices that nobody is there
  need_ip("addr add 10.78.0.254/24 dev wire");
}

OwnNetwork::~OwnNetwork()
{
  (void)::setns(m_former, CLONE_NEWNET);
  ::close(m_former);
}

void OwnNetwork::add(const std::string& address) const
{
  need_ip(fmt::format("addr add {}/32 dev lo", address));
}

void OwnNetwork::remove(const std::string& address) const
{
  need_ip(fmt::format("addr del {}/32 dev lo", address));
}

} // namespace lockrun::testing
