#include "support/etcd_servers.hpp"

#include "support/eventually.hpp"

#include <csignal>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

bool is_there(const char* program)
{
  return run_program({"sh", "-c", std::string("command -v ") + program}).status == exited(0);
}

// A port that nobody else gets from the kernel while this is there, not even while etcd is down. Who says SO_REUSEADDR,
// as etcd does, can have it beside a socket that says so and does not listen (socket(7)).
class Port {
public:
  Port() : m_socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))
  {
    ::sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::socklen_t size = sizeof address;
    auto* const generic = reinterpret_cast<::sockaddr*>(&address);
    const int yes = 1;
    // After bind(2), which would otherwise hand out one that another of us has.
    if (::bind(m_socket, generic, size) != 0 || ::getsockname(m_socket, generic, &size) != 0 ||
        ::setsockopt(m_socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0) {
      throw std::system_error(errno, std::generic_category(), "bind");
    }
    m_number = ntohs(address.sin_port);
  }
  ~Port() { ::close(m_socket); }
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;
  int number() const { return m_number; }

private:
  int m_socket;
  int m_number = 0;
};

// In memory if there is room: a disk that is busy holds up the servers for seconds, which are then the test's subject.
std::filesystem::path data_place()
{
  std::error_code error;
  const auto space = std::filesystem::space("/dev/shm", error);
  return !error && space.available > (1U << 30) ? std::filesystem::path("/dev/shm")
                                                : std::filesystem::temp_directory_path();
}

std::vector<std::string> lines_of(const std::string& text)
{
  std::vector<std::string> lines;
  std::istringstream input(text);
  for (std::string line; std::getline(input, line);) {
    if (!line.empty()) { lines.push_back(line); }
  }
  return lines;
}

} // namespace

std::optional<std::string> no_etcd()
{
  for (const char* program : {"etcd", "etcdctl"}) {
    if (!is_there(program)) { return std::string(program) + " is not installed (scripts/setup test)"; }
  }
  return std::nullopt;
}

struct EtcdServers::Node {
  Port client_port;
  Port peer_port;
  std::optional<Process> process;
};

EtcdServers::EtcdServers(const EtcdSetup& setup) : m_setup(setup), m_directory(data_place())
{
  for (int node = 0; node < setup.nodes; ++node) { m_nodes.push_back(std::make_unique<Node>()); }
  if (setup.uses_tls) { make_certificates(directory()); }
  start_all();
}

EtcdServers::~EtcdServers() = default;

std::string EtcdServers::host(int node) const
{
  return m_setup.network != nullptr ? m_setup.network->address(fmt::format("n{}", node)) : "127.0.0.1";
}

std::string EtcdServers::endpoint(int node) const
{
  return fmt::format("{}:{}", host(node), m_nodes[static_cast<std::size_t>(node)]->client_port.number());
}

std::string EtcdServers::endpoints() const
{
  std::string list;
  for (int node = 0; node < size(); ++node) { list += (node == 0 ? "" : ",") + endpoint(node); }
  return list;
}

std::string EtcdServers::peer(int node) const
{
  return fmt::format("http://{}:{}", host(node), m_nodes[static_cast<std::size_t>(node)]->peer_port.number());
}

void EtcdServers::launch(int node)
{
  std::string cluster;
  for (int other = 0; other < size(); ++other) {
    cluster += fmt::format("{}n{}={}", other == 0 ? "" : ",", other, peer(other));
  }
  Node& self = *m_nodes[static_cast<std::size_t>(node)];
  const std::string name = fmt::format("n{}", node);
  const std::string client = fmt::format("{}://{}", m_setup.uses_tls ? "https" : "http", endpoint(node));
  std::vector<std::string> argv =
    m_setup.network != nullptr ? m_setup.network->run_on(name) : std::vector<std::string>();
  argv.insert(argv.end(), {"etcd", "--name", name, "--data-dir", (directory() / name).string(), "--listen-client-urls",
                            client, "--advertise-client-urls", client, "--listen-peer-urls", peer(node),
                            "--initial-advertise-peer-urls", peer(node), "--initial-cluster", cluster});
  if (m_setup.uses_tls) {
    for (const auto& [option, file] : {std::pair("--cert-file", "server.pem"),
           std::pair("--key-file", "server-key.pem"), std::pair("--trusted-ca-file", "ca.pem")}) {
      argv.insert(argv.end(), {option, (directory() / file).string()});
    }
    argv.emplace_back("--client-cert-auth");
  }
  argv.insert(argv.end(), m_setup.options.begin(), m_setup.options.end());
  Start start;
  start.out = to_file(directory() / (name + ".log"));
  start.err = start.out;
  self.process.emplace(argv, start);
}

std::vector<std::string> EtcdServers::etcdctl_argv(const std::vector<std::string>& arguments) const
{
  std::vector<std::string> argv =
    m_setup.network != nullptr ? m_setup.network->run_on_hub() : std::vector<std::string>();
  argv.insert(argv.end(),
    {"env", "ETCDCTL_API=3", "etcdctl", "--dial-timeout=2s", "--command-timeout=5s", "--endpoints=" + endpoints()});
  if (m_setup.uses_tls) {
    argv.push_back("--cacert=" + (directory() / "ca.pem").string());
    argv.push_back("--cert=" + (directory() / "client.pem").string());
    argv.push_back("--key=" + (directory() / "client-key.pem").string());
  }
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

Finished EtcdServers::etcdctl(const std::vector<std::string>& arguments) const
{
  return run_program(etcdctl_argv(arguments));
}

bool EtcdServers::answers(int node) const
{
  std::vector<std::string> argv = etcdctl_argv({"endpoint", "health"});
  for (std::string& word : argv) {
    if (word.starts_with("--endpoints=")) { word = "--endpoints=" + endpoint(node); }
  }
  const Finished asked = run_program(argv);
  return asked.status == exited(0) || asked.err.find("user name is empty") != std::string::npos; // it knows that much
}

void EtcdServers::await(int node) const
{
  if (eventually([&] { return answers(node); }, std::chrono::seconds(60))) { return; }
  throw std::runtime_error("etcd does not answer; its log is in " + directory().string());
}

std::vector<std::string> EtcdServers::list(const std::vector<std::string>& arguments) const
{
  const Finished asked = etcdctl(arguments);
  if (asked.status != exited(0)) { return {"not known", asked.err}; } // rather than nothing there
  return lines_of(asked.out);
}

std::vector<std::string> EtcdServers::keys(const std::string& prefix) const
{
  return list({"get", "--prefix", "--keys-only", prefix});
}

std::vector<std::string> EtcdServers::leases() const
{
  auto lines = list({"lease", "list"});
  if (!lines.empty()) { lines.erase(lines.begin()); } // "found N leases"
  return lines;
}

void EtcdServers::signal(int node, int number)
{
  m_nodes[static_cast<std::size_t>(node)]->process->signal(number);
}

void EtcdServers::kill(int node)
{
  m_nodes[static_cast<std::size_t>(node)]->process.reset();
}

void EtcdServers::start(int node)
{
  launch(node);
  await(node);
}

pid_t EtcdServers::pid(int node) const
{
  return m_nodes[static_cast<std::size_t>(node)]->process->pid();
}

void EtcdServers::empty(int node)
{
  std::filesystem::remove_all(directory() / fmt::format("n{}", node));
}

void EtcdServers::restore(int node, const std::filesystem::path& snapshot)
{
  empty(node);
  const std::string name = fmt::format("n{}", node);
  const Finished restored =
    etcdctl({"snapshot", "restore", snapshot.string(), "--data-dir", (directory() / name).string(), "--name", name,
      "--initial-cluster", name + "=" + peer(node), "--initial-advertise-peer-urls", peer(node)});
  if (restored.status != exited(0)) { throw std::runtime_error("etcdctl snapshot restore: " + restored.err); }
}

void EtcdServers::kill_all()
{
  for (int node = 0; node < size(); ++node) { kill(node); }
}

void EtcdServers::start_all()
{
  for (int node = 0; node < size(); ++node) { launch(node); }
  for (int node = 0; node < size(); ++node) { await(node); }
}

int EtcdServers::leader() const
{
  const auto lines = lines_of(etcdctl({"endpoint", "status"}).out); // endpoint, id, version, size, leader, …
  for (const std::string& line : lines) {
    for (int node = 0; node < size(); ++node) {
      if (line.starts_with(endpoint(node) + ",") && line.find(", true, ") != std::string::npos) { return node; }
    }
  }
  return -1;
}

void EtcdServers::move_leader() const
{
  const int leading = leader();
  for (const std::string& line : list({"member", "list"})) { // id, status, name, …
    const bool is_leading = line.find(fmt::format(", n{},", leading)) != std::string::npos;
    if (!is_leading && etcdctl({"move-leader", line.substr(0, line.find(','))}).status == exited(0)) { return; }
  }
}

void make_certificates(const std::filesystem::path& directory)
{
  const char* const script = R"(set -e
authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" -keyout "$1-key.pem" -out "$1.pem"
}
signed() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1-key.pem" -out "$1.csr"
  printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile "$1.ext" -out "$1.pem"
}
authority ca
authority other-ca
signed server
signed client
)";
  Start start;
  start.directory = directory;
  const Finished made = run_program({"sh", "-c", script}, start);
  if (made.status != exited(0)) { throw std::runtime_error("openssl: " + made.err); }
}

} // namespace lockrun::testing
