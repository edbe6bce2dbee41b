#pragma once

#include <atomic>
#include <chrono>
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

// A listening socket on loopback whose connections are served side by side, each in a thread of its own, until the end.
class Listener {
public:
  // With port 0 the kernel chooses one. `serve` is called with the socket of each connection, which stays ours.
  Listener(const std::string& address, int port, std::function<void(int)> serve);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  int port() const noexcept { return m_port; }
  int connections() const noexcept { return m_connections; } // so far
  void disconnect();                                         // ends those that there are

private:
  int m_port;
  int m_socket;
  std::function<void(int)> m_serve;
  std::atomic<int> m_connections = 0;
  std::mutex m_mutex;
  std::vector<int> m_sockets;
  std::vector<std::thread> m_threads;
  std::thread m_acceptor;
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

  std::string endpoint() const;
  int port() const noexcept { return m_listener.port(); }
  int connections() const noexcept { return m_listener.connections(); } // so far
  int requests() const noexcept { return m_requests; }
  void disconnect() { m_listener.disconnect(); } // from all clients

private:
  void serve(int socket);

  Script m_script;
  std::string m_address;
  std::atomic<int> m_requests = 0;
  Listener m_listener; // the last: it serves until it is gone
};

// What etcd answers when everything goes well and nobody else is there. `ttl` is what its leases are said to live, and
// `revision` how far it is.
ScriptedServer::Script obliging_etcd(const std::string& ttl = "30", const std::string& revision = "5");

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
  using Delay = std::function<std::chrono::milliseconds()>; // of the next piece; called by several threads

  SlowProxy(const std::string& server, std::chrono::milliseconds delay, int port = 0);
  SlowProxy(const std::string& server, Delay delay, const std::string& address = "127.0.0.1", int port = 0);
  std::string endpoint() const;
  int connections() const noexcept { return m_listener.connections(); } // so far

private:
  void serve(int client);

  std::string m_server;
  std::string m_address;
  Delay m_delay;
  Listener m_listener; // the last: it serves until it is gone
};

} // namespace lockrun::testing
