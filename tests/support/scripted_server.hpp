#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace lockrun::testing {

// The other end of a connection to a server of ours.
class Peer {
public:
  explicit Peer(int socket) : m_socket(socket) {}

  // False once the other end, or the server, is gone.
  bool send(const std::string& bytes) const;
  // A whole HTTP answer.
  bool answer(int status, const std::string& body) const;

private:
  int m_socket;
};

// An HTTP server on loopback whose script answers each request, or does not: it sends what it likes. Requests of one
// connection come one after the other, in a thread of their own.
class ScriptedServer {
public:
  struct Request {
    std::string path;
    std::string body;
  };
  using Script = std::function<void(const Request&, const Peer&)>;

  explicit ScriptedServer(Script script, const std::string& address = "127.0.0.1", int port = 0);
  ~ScriptedServer();
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  std::string endpoint() const;
  int port() const noexcept { return m_port; }
  int connections() const noexcept { return m_connections; } // so far
  int requests() const noexcept { return m_requests; }

private:
  void serve(int socket);

  Script m_script;
  std::string m_address;
  int m_port = 0;
  int m_listener = -1;
  std::atomic<int> m_connections = 0;
  std::atomic<int> m_requests = 0;
  std::mutex m_mutex;
  std::vector<int> m_sockets;
  std::vector<std::thread> m_threads;
  std::thread m_acceptor;
};

// What etcd answers when everything goes well and nobody else is there. `ttl` is what its leases are said to live.
ScriptedServer::Script obliging_etcd(const std::string& ttl = "30");

// An address and port that no packet of a connection gets an answer from: a socket whose backlog is full.
class SilentAddress {
public:
  explicit SilentAddress(const std::string& address = "127.0.0.1", int port = 0);
  ~SilentAddress();
  SilentAddress(const SilentAddress&) = delete;
  SilentAddress& operator=(const SilentAddress&) = delete;
  std::string endpoint() const;

private:
  std::string m_address;
  int m_port = 0;
  int m_listener = -1;
  std::vector<int> m_callers;
};

// Passes bytes on between its clients and a server, in both directions. What the server says comes late.
class SlowProxy {
public:
  SlowProxy(const std::string& server, std::chrono::milliseconds delay);
  ~SlowProxy();
  SlowProxy(const SlowProxy&) = delete;
  SlowProxy& operator=(const SlowProxy&) = delete;
  std::string endpoint() const;

private:
  void serve(int client);

  std::string m_server;
  std::chrono::milliseconds m_delay;
  int m_port = 0;
  int m_listener = -1;
  std::mutex m_mutex;
  std::vector<int> m_sockets;
  std::vector<std::thread> m_threads;
  std::thread m_acceptor;
};

} // namespace lockrun::testing
