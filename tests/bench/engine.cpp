// What locks in etcd cost, beside `etcdctl lock` in the same run: bench_engine LOCKRUN ENGINES [--rounds N] [PART]...
// Servers are started on ports of their own. Compare the ratios: times are this machine's and this minute's. Parts:
//   calls     acquire, run true, release: with one and three nodes, without and with TLS
//   handover  what each of 20 waiters adds to the time in which the queue is served
//   waiters   100 and 200 callers that only wait: the server's processor time, bytes, connections
//   writes    entries in the log of Raft for each lock
//   outage    how often waiters connect while the server is away
//   crowd     60 callers at once, with and without slots: round trips and connections of each of them
#include "support/etcd_servers.hpp"
#include "support/eventually.hpp"
#include "support/process.hpp"
#include "support/scripted_server.hpp"
#include "support/temp_dir.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

using namespace lockrun::testing;
using Clock = std::chrono::steady_clock;
using Argv = std::vector<std::string>;
using std::chrono::milliseconds;
using std::chrono::seconds;

[[noreturn]] void fail(const std::string& text)
{
  fmt::print(stderr, "bench_engine: {}\n", text);
  std::exit(1);
}

// Passes bytes on between callers and a server, and counts. While it is away it closes each connection at once.
class Relay {
public:
  explicit Relay(const std::string& server)
    : m_port(std::stoi(server.substr(server.rfind(':') + 1))), m_listener("127.0.0.1", 0, [this](int c) { serve(c); })
  {}

  struct Counts {
    std::int64_t connections = 0; // so far
    std::int64_t open = 0;
    std::int64_t sent = 0;     // bytes from the server
    std::int64_t received = 0; // bytes to it
    std::int64_t turns = 0;    // how often a caller spoke after the server had, or first, but to watch
  };
  Counts counts() const { return {m_listener.connections(), m_open, m_sent, m_received, m_turns}; }
  std::string endpoint() const { return fmt::format("127.0.0.1:{}", m_listener.port()); }
  void be_away(bool is_away) { m_is_away = is_away; }

private:
  void serve(int caller)
  {
    const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int yes = 1;
    ::setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    ::setsockopt(caller, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    ::sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(static_cast<std::uint16_t>(m_port));
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!m_is_away && ::connect(server, reinterpret_cast<::sockaddr*>(&where), sizeof where) == 0) {
      ++m_open;
      pass(caller, server);
      --m_open;
    }
    ::shutdown(caller, SHUT_RDWR);
    ::close(server);
  }

  void pass(int caller, int server)
  {
    bool is_callers_turn = false;
    ::pollfd ends[2] = {{caller, POLLIN, 0}, {server, POLLIN, 0}};
    char bytes[16384];
    while (!m_is_away) {
      (void)::poll(ends, 2, 200); // an outage is noticed
      for (int i = 0; i < 2; ++i) {
        if (ends[i].revents == 0) { continue; }
        const ssize_t count = ::recv(ends[i].fd, bytes, sizeof bytes, 0);
        if (count <= 0) { return; }
        // Nothing waits for the answer to our watch, which has a connection of its own.
        const bool is_watch = std::string_view(bytes, static_cast<std::size_t>(count)).starts_with("POST /v3/watch");
        if (i == 0 && !std::exchange(is_callers_turn, true) && !is_watch) { ++m_turns; }
        if (i == 1) { is_callers_turn = false; }
        (i == 0 ? m_received : m_sent) += count;
        for (ssize_t sent = 0; sent < count;) {
          const ssize_t step =
            ::send(ends[1 - i].fd, bytes + sent, static_cast<std::size_t>(count - sent), MSG_NOSIGNAL);
          if (step <= 0) { return; }
          sent += step;
        }
      }
    }
  }

  int m_port;
  std::atomic<bool> m_is_away = false;
  std::atomic<std::int64_t> m_open = 0;
  std::atomic<std::int64_t> m_sent = 0;
  std::atomic<std::int64_t> m_received = 0;
  std::atomic<std::int64_t> m_turns = 0;
  Listener m_listener; // the last: it serves until it is gone
};

// One of the two that are compared.
struct Tool {
  std::string lockrun;
  std::string engines;
  bool is_ours = true;

  const char* name() const { return is_ours ? "lockrun" : "etcdctl"; }
  std::string prefix() const { return is_ours ? "ours/" : "theirs/"; }

  // `ttl` of 0 is its own.
  Argv argv(const EtcdServers& etcd, bool has_tls, const std::string& endpoints, const Argv& command, seconds ttl,
    const Argv& options = {}) const
  {
    const std::string files = etcd.directory().string();
    Argv argv;
    if (is_ours) {
      std::string url = "etcd://" + endpoints + "/ours";
      std::string parameters;
      if (ttl > seconds(0)) { parameters += fmt::format("&ttl={}s", ttl.count()); }
      if (has_tls) {
        parameters += fmt::format("&cacert={0}/ca.pem&cert={0}/client.pem&key={0}/client-key.pem", files);
      }
      if (!parameters.empty()) { url += "?" + parameters.substr(1); }
      argv = {"env", "LOCKRUN_ENGINE_PATH=" + engines, lockrun, "-q"};
      argv.insert(argv.end(), options.begin(), options.end());
      argv.push_back(url);
    } else {
      argv = {"env", "ETCDCTL_API=3", "etcdctl", "--endpoints=" + endpoints};
      if (has_tls) {
        for (const std::string& one :
          {"cacert=" + files + "/ca.pem", "cert=" + files + "/client.pem", "key=" + files + "/client-key.pem"}) {
          argv.push_back("--" + one);
        }
      }
      argv.emplace_back("lock");
      if (ttl > seconds(0)) { argv.push_back(fmt::format("--ttl={}", ttl.count())); }
      argv.emplace_back("theirs");
    }
    argv.insert(argv.end(), command.begin(), command.end());
    return argv;
  }
};

Start quiet()
{
  Start start;
  start.out = k_null;
  start.err = k_null;
  return start;
}

double median(std::vector<double> values)
{
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double timed(const std::function<void()>& deed)
{
  const auto began = Clock::now();
  deed();
  return std::chrono::duration<double, std::milli>(Clock::now() - began).count();
}

void heading()
{
  std::printf("%-58s %10s %10s %7s\n", "", "lockrun", "etcdctl", "ratio");
}

// fmt is built without doubles.
void row(const std::string& what, double ours, double theirs)
{
  std::printf("%-58s %10.2f %10.2f %7.2f\n", what.c_str(), ours, theirs, ours / theirs);
  (void)std::fflush(stdout);
}

void ours_only(const std::string& what, double ours)
{
  std::printf("%-58s %10.2f\n", what.c_str(), ours);
  (void)std::fflush(stdout);
}

// A holder until it is let go.
class Holder {
public:
  Holder(const TempDir& dir, const std::function<Argv(const Argv&)>& argv)
    : m_gate(dir / "gate"), m_script(write_file(dir / "holder", "#!/bin/sh\necho >\"$1\"\nread -r _ <\"$1\"\n"))
  {
    std::filesystem::remove(m_gate);
    std::filesystem::permissions(m_script, std::filesystem::perms::owner_all);
    if (::mkfifo(m_gate.c_str(), 0600) != 0) { fail("cannot make a FIFO"); }
    m_process.emplace(argv({m_script.string(), m_gate.string()}), quiet());
    std::ifstream gate(m_gate);
    std::string line;
    std::getline(gate, line);
  }
  void let_go() { std::ofstream(m_gate) << "\n"; }
  void wait()
  {
    if (m_process->wait().status != exited(0)) { fail("a holder failed"); }
  }

private:
  std::filesystem::path m_gate;
  std::filesystem::path m_script;
  std::optional<Process> m_process;
};

class Bench {
public:
  Bench(const std::string& lockrun, const std::string& engines, int rounds) : m_rounds(rounds)
  {
    for (Tool* tool : {&m_ours, &m_theirs}) {
      tool->lockrun = lockrun;
      tool->engines = engines;
    }
    m_theirs.is_ours = false;
  }

  void calls()
  {
    for (const bool has_tls : {false, true}) {
      for (const int nodes : {1, 3}) {
        const EtcdServers etcd({nodes, {}, has_tls});
        std::vector<double> ours;
        std::vector<double> theirs;
        for (int round = 0; round < m_rounds; ++round) {
          for (const Tool* tool : {&m_ours, &m_theirs}) {
            const Argv argv = tool->argv(etcd, has_tls, etcd.endpoints(), {"true"}, seconds(0));
            const double took = timed([&] {
              if (run_program(argv, quiet()).status != exited(0)) { fail(std::string(tool->name()) + " failed"); }
            });
            (tool->is_ours ? ours : theirs).push_back(took);
          }
        }
        row(fmt::format("acquire, run true, release; {} node(s){}, ms", nodes, has_tls ? ", TLS" : ""), median(ours),
          median(theirs));
      }
    }
  }

  void handover()
  {
    for (const int nodes : {1, 3}) {
      const EtcdServers etcd({nodes, {}, false});
      std::vector<double> ours;
      std::vector<double> theirs;
      for (int round = 0; round < 7; ++round) {
        for (const Tool* tool : {&m_ours, &m_theirs}) {
          const auto argv = [&](const Argv& command) {
            return tool->argv(etcd, false, etcd.endpoints(), command, seconds(0));
          };
          Holder holder(m_dir, argv);
          std::vector<Process> waiters = start(20, argv({"true"}));
          await_keys(etcd, *tool, 21);
          const double took = timed([&] {
            holder.let_go();
            holder.wait();
            for (Process& waiter : waiters) { (void)waiter.wait(); }
          });
          (tool->is_ours ? ours : theirs).push_back(took / 20);
        }
      }
      row(fmt::format("hand-over among 20; {} node(s), ms", nodes), median(ours), median(theirs));
    }
  }

  void waiters()
  {
    struct Figures {
      double processor; // ms of each second
      double sent;      // kB a second
      double received;
      double open; // connections of each
      double connects;
    };
    const auto measure = [&](const Tool& tool, int count, bool has_tls, seconds ttl) {
      EtcdServers etcd({1, {}, has_tls});
      const Relay relay(etcd.endpoint(0));
      const auto argv = [&](const Argv& command) { return tool.argv(etcd, has_tls, relay.endpoint(), command, ttl); };
      Holder holder(m_dir, argv);
      std::vector<Process> crowd = start(count, argv({"true"}));
      await_keys(etcd, tool, static_cast<std::size_t>(count) + 1);
      std::this_thread::sleep_for(seconds(5)); // what comes after that
      const auto before = relay.counts();
      const double processor = processor_of(etcd.pid(0));
      const auto began = Clock::now();
      std::this_thread::sleep_for(seconds(30));
      const double passed = std::chrono::duration<double>(Clock::now() - began).count();
      const auto after = relay.counts();
      Figures figures{};
      figures.processor = 1000 * (processor_of(etcd.pid(0)) - processor) / passed;
      figures.sent = static_cast<double>(after.sent - before.sent) / passed / 1000;
      figures.received = static_cast<double>(after.received - before.received) / passed / 1000;
      figures.open = static_cast<double>(after.open) / (count + 1);
      figures.connects = static_cast<double>(after.connections - before.connections) / passed;
      for (Process& one : crowd) { one.signal(SIGKILL); }
      holder.let_go();
      holder.wait();
      return figures;
    };
    struct Case {
      int count;
      bool has_tls;
      seconds ttl; // of lockrun; 0: its own
    };
    for (const Case& one : {Case{100, false, seconds(0)}, Case{200, false, seconds(0)}, Case{200, false, seconds(10)},
           Case{200, true, seconds(0)}}) {
      const Figures ours = measure(m_ours, one.count, one.has_tls, one.ttl);
      const Figures theirs = measure(m_theirs, one.count, one.has_tls, seconds(10));
      const std::string who = fmt::format("{} waiters{}{}", one.count, one.has_tls ? ", TLS" : "",
        one.ttl > seconds(0) ? fmt::format(", ttl={}s", one.ttl.count()) : "");
      row(who + ": server's processor, ms/s", ours.processor, theirs.processor);
      row(who + ": bytes from the server, kB/s", ours.sent, theirs.sent);
      row(who + ": bytes to the server, kB/s", ours.received, theirs.received);
      row(who + ": connections of each", ours.open, theirs.open);
      row(who + ": connects a second, of all", ours.connects, theirs.connects);
    }
  }

  void writes()
  {
    const EtcdServers etcd;
    const auto script = write_file(m_dir / "longer", "#!/bin/sh\nsleep 5\n");
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    const auto cost = [&](const Tool& tool, const std::string& command) {
      const Argv argv = tool.argv(etcd, false, etcd.endpoints(), {command}, seconds(6));
      (void)run_program(argv, quiet()); // the first one of a cluster writes its epoch
      const std::int64_t before = raft_index(etcd);
      if (run_program(argv, quiet()).status != exited(0)) { fail(std::string(tool.name()) + " failed"); }
      return static_cast<double>(raft_index(etcd) - before);
    };
    row("entries in the log of a lock that is short", cost(m_ours, "true"), cost(m_theirs, "true"));
    row("... and of one that is renewed twice", cost(m_ours, script), cost(m_theirs, script));
  }

  void outage()
  {
    constexpr int k_count = 30;
    const auto measure = [&](const Tool& tool) {
      EtcdServers etcd;
      Relay relay(etcd.endpoint(0));
      const auto argv = [&](const Argv& command) {
        return tool.argv(etcd, false, relay.endpoint(), command, seconds(60));
      };
      Holder holder(m_dir, argv);
      std::vector<Process> crowd = start(k_count, argv({"true"}));
      await_keys(etcd, tool, k_count + 1);
      relay.be_away(true);
      std::this_thread::sleep_for(seconds(1));
      const auto before = relay.counts();
      std::this_thread::sleep_for(seconds(30));
      const auto after = relay.counts();
      for (Process& one : crowd) { one.signal(SIGKILL); }
      relay.be_away(false);
      holder.let_go();
      holder.wait();
      return static_cast<double>(after.connections - before.connections) / 30 / (k_count + 1);
    };
    const double ours = measure(m_ours);
    row("connects a second of each waiter in an outage", ours, measure(m_theirs));
  }

  void crowd()
  {
    const auto measure = [&](const Tool& tool, const Argv& options, const std::string& what) {
      const EtcdServers etcd;
      const Relay relay(etcd.endpoint(0));
      const auto argv = tool.argv(etcd, false, relay.endpoint(), {"true"}, seconds(0), options);
      (void)run_program(argv, quiet()); // the first one of a cluster writes its epoch
      const auto before = relay.counts();
      std::vector<Process> crowd = start(60, argv);
      for (Process& one : crowd) { (void)one.wait(); }
      const auto after = relay.counts();
      const double turns = static_cast<double>(after.turns - before.turns) / 60;
      const double connections = static_cast<double>(after.connections - before.connections) / 60;
      if (!what.empty()) {
        ours_only(what + ": round trips of a call", turns);
        ours_only(what + ": connections of a call", connections);
      }
      return std::pair(turns, connections);
    };
    (void)measure(m_ours, {"--slots=4"}, "60 callers with 4 slots");
    (void)measure(m_ours, {"--slots=4", "-n"}, "60 callers with 4 slots, which do not wait");
    const auto ours = measure(m_ours, {}, "");
    const auto theirs = measure(m_theirs, {}, "");
    row("60 callers: round trips of a call", ours.first, theirs.first);
    row("60 callers: connections of a call", ours.second, theirs.second);
  }

private:
  static std::vector<Process> start(int count, const Argv& argv)
  {
    std::vector<Process> processes;
    for (int i = 0; i < count; ++i) { processes.emplace_back(argv, quiet()); }
    return processes;
  }

  static void await_keys(const EtcdServers& etcd, const Tool& tool, std::size_t count)
  {
    if (!eventually([&] { return etcd.keys(tool.prefix()).size() == count; }, seconds(120))) { fail("no queue"); }
  }

  static double processor_of(pid_t pid)
  {
    std::ifstream stat(fmt::format("/proc/{}/stat", pid));
    std::string text(std::istreambuf_iterator<char>(stat), {});
    std::istringstream rest(text.substr(text.rfind(')') + 1));
    std::string word;
    double ticks = 0;
    for (int i = 3; i <= 15 && rest >> word; ++i) {
      if (i == 14 || i == 15) { ticks += std::stod(word); }
    }
    return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
  }

  static std::int64_t raft_index(const EtcdServers& etcd)
  {
    const std::string said = etcd.etcdctl({"endpoint", "status", "-w", "json"}).out;
    const std::string name = "\"raftIndex\":";
    return std::stoll(said.substr(said.find(name) + name.size()));
  }

  Tool m_ours;
  Tool m_theirs;
  int m_rounds;
  TempDir m_dir;
};

} // namespace

int main(int argc, char** argv)
{
  std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() < 2) { fail("LOCKRUN and the directory of engines are missing"); }
  int rounds = 30;
  std::set<std::string> parts;
  for (std::size_t i = 2; i < words.size(); ++i) {
    if (words[i] == "--rounds" && i + 1 < words.size()) {
      rounds = std::max(1, std::atoi(words[++i].c_str()));
    } else {
      parts.insert(words[i]);
    }
  }
  Bench bench(words[0], words[1], rounds);
  const std::vector<std::pair<std::string, std::function<void()>>> all = {{"calls", [&] { bench.calls(); }},
    {"handover", [&] { bench.handover(); }}, {"waiters", [&] { bench.waiters(); }}, {"writes", [&] { bench.writes(); }},
    {"outage", [&] { bench.outage(); }}, {"crowd", [&] { bench.crowd(); }}};
  for (const std::string& part : parts) {
    if (std::none_of(all.begin(), all.end(), [&](const auto& one) { return one.first == part; })) {
      fail(fmt::format("there is no part '{}'", part));
    }
  }
  heading();
  for (const auto& [name, run] : all) {
    if (parts.empty() || parts.contains(name)) { run(); }
  }
}
