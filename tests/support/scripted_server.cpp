#include "support/scripted_server.hpp"

#include <cerrno>
#include <deque>
#include <system_error>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void give_up(const char* call)
{
  throw std::system_error(errno, std::generic_category(), call);
}

::sockaddr_in socket_address(const std::string& address, int port)
{
  ::sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(static_cast<std::uint16_t>(port));
  if (::inet_pton(AF_INET, address.c_str(), &result.sin_addr) != 1) { give_up("inet_pton"); }
  return result;
}

int listen_on(const std::string& address, int& port, int backlog)
{
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int yes = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  ::sockaddr_in where = socket_address(address, port);
  ::socklen_t size = sizeof where;
  auto* const generic = reinterpret_cast<::sockaddr*>(&where);
  if (::bind(listener, generic, size) != 0) { give_up("bind"); }
  if (::listen(listener, backlog) != 0) { give_up("listen"); }
  if (::getsockname(listener, generic, &size) != 0) { give_up("getsockname"); }
  port = ntohs(where.sin_port);
  return listener;
}

int connect_to(const std::string& endpoint, int flags)
{
  const std::size_t colon = endpoint.rfind(':');
  const ::sockaddr_in where = socket_address(endpoint.substr(0, colon), std::stoi(endpoint.substr(colon + 1)));
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  (void)::connect(socket, reinterpret_cast<const ::sockaddr*>(&where), sizeof where); // a failure shows in its use
  return socket;
}

std::string header(const std::string& head, const std::string& name)
{
  const std::size_t found = head.find("\r\n" + name + ": ");
  if (found == std::string::npos) { return {}; }
  const std::size_t begin = found + name.size() + 4;
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

} // namespace

bool Peer::send(const std::string& bytes) const
{
  std::string_view rest = bytes;
  while (!rest.empty()) {
    const ssize_t sent = ::send(m_socket, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent <= 0) { return false; }
    rest.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool Peer::answer(int status, const std::string& body) const
{
  return send(fmt::format("HTTP/1.1 {} Some reason\r\nContent-Length: {}\r\n\r\n{}", status, body.size(), body));
}

Listener::Listener(const std::string& address, int port, std::function<void(int)> serve)
  : m_port(port), m_socket(listen_on(address, m_port, SOMAXCONN)), m_serve(std::move(serve))
{
  m_acceptor = std::thread([this] {
    for (;;) {
      const int socket = ::accept4(m_socket, nullptr, nullptr, SOCK_CLOEXEC);
      if (socket < 0) { return; }
      ++m_connections;
      const std::lock_guard lock(m_mutex);
      m_sockets.push_back(socket);
      m_threads.emplace_back([this, socket] { m_serve(socket); });
    }
  });
}

Listener::~Listener()
{
  ::shutdown(m_socket, SHUT_RDWR);
  m_acceptor.join();
  disconnect();
  for (std::thread& thread : m_threads) { thread.join(); }
  for (const int socket : m_sockets) { ::close(socket); }
  ::close(m_socket);
}

void Listener::disconnect()
{
  const std::lock_guard lock(m_mutex);
  for (const int socket : m_sockets) { ::shutdown(socket, SHUT_RDWR); }
}

ScriptedServer::ScriptedServer(Script script, const std::string& address, int port)
  : m_script(std::move(script)), m_address(address), m_listener(address, port, [this](int socket) { serve(socket); })
{}

std::string ScriptedServer::endpoint() const
{
  return fmt::format("{}:{}", m_address, port());
}

void ScriptedServer::serve(int socket)
{
  std::string bytes;
  const Peer peer(socket);
  for (;;) {
    const std::size_t end = bytes.find("\r\n\r\n");
    if (end != std::string::npos) {
      const std::string head = bytes.substr(0, end + 2);
      const std::string length = header(head, "Content-Length");
      const std::size_t size = length.empty() ? 0 : std::stoul(length);
      if (bytes.size() >= end + 4 + size) {
        const std::size_t space = head.find(' ');
        const Request request{
          head.substr(space + 1, head.find(' ', space + 1) - space - 1), bytes.substr(end + 4, size)};
        bytes.erase(0, end + 4 + size);
        ++m_requests;
        m_script(request, peer);
        continue;
      }
    }
    char piece[4096];
    const ssize_t count = ::recv(socket, piece, sizeof piece, 0);
    if (count <= 0) { break; }
    bytes.append(piece, static_cast<std::size_t>(count));
  }
  ::shutdown(socket, SHUT_RDWR);
}

ScriptedServer::Script obliging_etcd(const std::string& ttl, const std::string& revision)
{
  struct Key {
    std::mutex mutex;
    std::string name;
    std::string value;
    std::string lease;
  };
  auto key = std::make_shared<Key>();
  return [ttl, revision, key](const ScriptedServer::Request& request, const Peer& peer) {
    const std::string header =
      fmt::format(R"("header":{{"cluster_id":"7","member_id":"8","revision":"{}","raft_term":"2"}})", revision);
    // Whoever asks for a key finds it as it was put.
    const std::lock_guard lock(key->mutex);
    const std::size_t put = request.path == "/v3/kv/txn" ? request.body.find("\"request_put\"") : std::string::npos;
    const auto member = [&](const std::string& name) {
      const std::string start = "\"" + name + "\":\"";
      const std::size_t found = request.body.find(start, put);
      if (found == std::string::npos) { return std::string(); }
      const std::size_t begin = found + start.size();
      return request.body.substr(begin, request.body.find('"', begin) - begin);
    };
    // What has no lease is the mark of the cluster's history.
    if (put != std::string::npos && !member("lease").empty()) {
      key->name = member("key");
      key->value = member("value");
      key->lease = member("lease");
    }
    const std::string kvs =
      key->name.empty()
        ? std::string()
        : fmt::format(
            R"(,"kvs":[{{"key":"{0}","create_revision":"{3}","mod_revision":"{3}","version":"1","value":"{1}","lease":"{2}"}}],)"
            R"("count":"1")",
            key->name, key->value, key->lease, revision);
    if (request.path == "/v3/lease/grant") {
      peer.answer(200, fmt::format(R"({{{},"ID":"1234","TTL":"{}"}})", header, ttl));
    } else if (request.path == "/v3/lease/keepalive") {
      peer.answer(200, fmt::format(R"({{"result":{{{},"ID":"1234","TTL":"{}"}}}})", header, ttl));
    } else if (request.path == "/v3/kv/txn") {
      peer.answer(200,
        fmt::format(R"({{{},"succeeded":true,"responses":[{{"response_put":{{}}}},{{"response_range":{{{}{}}}}}]}})",
          header, header, kvs));
    } else if (request.path == "/v3/kv/range") {
      peer.answer(200, fmt::format("{{{}{}}}", header, kvs));
    } else if (request.path == "/v3/watch") {
      peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    } else {
      peer.answer(200, fmt::format("{{{}}}", header));
    }
  };
}

SilentAddress::SilentAddress(const std::string& address, int port)
  : m_address(address), m_port(port), m_listener(listen_on(address, m_port, 0))
{
  // The first one or two fill the backlog; the others get no answer.
  for (int i = 0; i < 4; ++i) { m_callers.push_back(connect_to(endpoint(), SOCK_NONBLOCK)); }
}

SilentAddress::~SilentAddress()
{
  for (const int caller : m_callers) { ::close(caller); }
  ::close(m_listener);
}

std::string SilentAddress::endpoint() const
{
  return fmt::format("{}:{}", m_address, m_port);
}

SlowProxy::SlowProxy(const std::string& server, std::chrono::milliseconds delay, int port)
  : SlowProxy(
      server, [delay] { return delay; }, "127.0.0.1", port)
{}

SlowProxy::SlowProxy(const std::string& server, Delay delay, const std::string& address, int port)
  : m_server(server), m_address(address), m_delay(std::move(delay)),
    m_listener(address, port, [this](int client) { serve(client); })
{}

std::string SlowProxy::endpoint() const
{
  return fmt::format("{}:{}", m_address, m_listener.port());
}

void SlowProxy::serve(int client)
{
  struct Piece {
    Clock::time_point due;
    std::string bytes;
  };
  std::deque<Piece> late;
  const int server = connect_to(m_server, 0);
  for (;;) {
    int patience = -1;
    if (!late.empty()) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(late.front().due - Clock::now());
      patience = static_cast<int>(std::max<std::int64_t>(left.count(), 0));
    }
    ::pollfd ends[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
    (void)::poll(ends, 2, patience);
    char bytes[4096];
    if (ends[0].revents != 0) {
      const ssize_t count = ::recv(client, bytes, sizeof bytes, 0);
      if (count <= 0) { break; }
      if (::send(server, bytes, static_cast<std::size_t>(count), MSG_NOSIGNAL) < 0) { break; }
    }
    if (ends[1].revents != 0) {
      const ssize_t count = ::recv(server, bytes, sizeof bytes, 0);
      if (count <= 0) { break; }
      late.push_back({Clock::now() + m_delay(), {bytes, static_cast<std::size_t>(count)}});
    }
    while (!late.empty() && late.front().due <= Clock::now()) {
      (void)::send(client, late.front().bytes.data(), late.front().bytes.size(), MSG_NOSIGNAL); // it may be gone
      late.pop_front();
    }
  }
  ::shutdown(client, SHUT_RDWR);
  ::close(server);
}

} // namespace lockrun::testing
