#include "support/etcd_proxy.hpp"

#include "sys/clock.hpp"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <system_error>
#include <thread>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

::sockaddr_in loopback(int port)
{
  ::sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return address;
}

bool send_all(int socket, std::string_view bytes)
{
  while (!bytes.empty()) {
    const ssize_t count = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) { return false; }
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

// Adds what comes; false at the end.
bool receive_more(int socket, std::string& bytes)
{
  char piece[4096];
  const ssize_t count = ::recv(socket, piece, sizeof piece, 0);
  if (count <= 0) { return false; }
  bytes.append(piece, static_cast<std::size_t>(count));
  return true;
}

} // namespace

struct EtcdProxy::State {
  Judge judge;
  int port = 0; // of etcd
  int listener = -1;
  std::string endpoint;
  std::mutex mutex;
  std::set<int> sockets; // open ones
  bool has_ended = false;
  std::map<std::string, int> counts;
  std::map<std::string, std::chrono::nanoseconds> firsts;
  std::vector<Request> kept;
  bool lets_go = false;
  std::condition_variable may_go;
  int held_back = 0;
  std::thread acceptor;
  std::vector<std::thread> threads; // of connections

  bool add(int socket)
  {
    const std::lock_guard guard(mutex);
    if (has_ended) { return false; }
    sockets.insert(socket);
    return true;
  }
  void close(int socket)
  {
    const std::lock_guard guard(mutex);
    sockets.erase(socket);
    ::close(socket);
  }

  void accept_all()
  {
    for (;;) {
      const int socket = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (socket < 0) { return; }
      if (!add(socket)) {
        ::close(socket);
        return;
      }
      threads.emplace_back([this, socket] {
        serve(socket);
        close(socket);
      });
    }
  }

  // HTTP/1.0: the answer ends with the connection, and is in one piece.
  int ask(const Request& request)
  {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const auto address = loopback(port);
    const bool is_there = ::connect(socket, reinterpret_cast<const ::sockaddr*>(&address), sizeof address) == 0;
    if (!is_there || !add(socket)) {
      ::close(socket);
      return -1;
    }
    (void)send_all(socket, "POST " + request.path + " HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: " +
                             std::to_string(request.body.size()) + "\r\n\r\n" + request.body);
    return socket;
  }

  std::optional<std::string> answer(const Request& request)
  {
    const int socket = ask(request);
    if (socket < 0) { return std::nullopt; }
    std::string bytes;
    while (receive_more(socket, bytes)) {}
    close(socket);
    return bytes;
  }

  // Both ways, until one of them ends.
  void relay(int client, const Request& request)
  {
    const int socket = ask(request);
    if (socket < 0) { return; }
    for (;;) {
      ::pollfd sources[] = {{client, POLLIN, 0}, {socket, POLLIN, 0}};
      std::string bytes;
      if (::poll(sources, 2, -1) < 0 || sources[0].revents != 0) { break; }
      if (!receive_more(socket, bytes) || !send_all(client, bytes)) { break; }
    }
    close(socket);
  }

  Fate fate_of(Request& request)
  {
    const std::lock_guard guard(mutex);
    request.number = ++counts[request.path];
    firsts.try_emplace(request.path, sys::elapsed_now());
    const Fate fate = judge(request);
    if (fate == Fate::keep) { kept.push_back(request); }
    return fate;
  }

  // Of a connection.
  enum class Course { open, held_back, silent };

  void serve(int client)
  {
    Course course = Course::open;
    serve(client, course);
    const std::lock_guard guard(mutex);
    held_back -= course == Course::held_back ? 1 : 0;
  }

  void serve(int client, Course& course)
  {
    for (std::string bytes;;) {
      std::size_t end = 0;
      while ((end = bytes.find("\r\n\r\n")) == std::string::npos) {
        if (!receive_more(client, bytes)) { return; }
      }
      Request request{};
      request.path = bytes.substr(5, bytes.find(' ', 5) - 5); // POST PATH
      const auto field = bytes.find("Content-Length: ");
      const std::size_t length = field < end ? std::stoul(bytes.substr(field + 16)) : 0;
      while (bytes.size() < end + 4 + length) {
        if (!receive_more(client, bytes)) { return; }
      }
      request.body = bytes.substr(end + 4, length);
      bytes.erase(0, end + 4 + length);
      if (!obey(client, request, bytes, course)) { return; }
    }
  }

  void hold_back()
  {
    std::unique_lock lock(mutex);
    ++held_back;
    may_go.wait(lock, [this] { return lets_go || has_ended; });
  }

  // Whether the connection goes on.
  bool obey(int client, Request& request, std::string& rest, Course& course)
  {
    const Fate fate = course == Course::open ? fate_of(request) : Fate::pass;
    if (fate == Fate::hold_back) {
      course = Course::held_back;
      hold_back();
    }
    if (fate == Fate::swallow) { course = Course::silent; }
    if (fate == Fate::lose_request) { return false; }
    if (fate == Fate::pass && course == Course::open && request.path == "/v3/watch") {
      relay(client, request);
      return false;
    }
    std::optional<std::string> said;
    if (fate != Fate::keep) { said = answer(request); }
    if (fate == Fate::twice) { said = answer(request); }
    if (fate == Fate::lose_answer) { return false; }
    if (course == Course::silent) { return true; }
    if (fate == Fate::keep) {
      while (receive_more(client, rest)) {} // until the client gives up
      return false;
    }
    if (!said) { return false; }
    const auto end = said->find("\r\n\r\n");
    if (end == std::string::npos) { return false; }
    const std::string body = said->substr(end + 4);
    return (course == Course::held_back) |
           send_all(client, "HTTP/1.1 " + said->substr(9, 3) + " As said\r\nContent-Type: application/json\r\n" +
                              "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }
};

EtcdProxy::EtcdProxy(const std::string& etcd, Judge judge) : m_state(std::make_unique<State>())
{
  State& state = *m_state;
  state.judge = std::move(judge);
  state.port = std::stoi(etcd.substr(etcd.rfind(':') + 1));
  state.listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto address = loopback(0);
  ::socklen_t size = sizeof address;
  auto* const generic = reinterpret_cast<::sockaddr*>(&address);
  if (::bind(state.listener, generic, size) != 0 || ::listen(state.listener, SOMAXCONN) != 0 ||
      ::getsockname(state.listener, generic, &size) != 0) {
    throw std::system_error(errno, std::generic_category(), "bind");
  }
  state.endpoint = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  state.acceptor = std::thread([&state] { state.accept_all(); });
}

EtcdProxy::~EtcdProxy()
{
  {
    const std::lock_guard guard(m_state->mutex);
    m_state->has_ended = true;
    m_state->may_go.notify_all();
    for (const int socket : m_state->sockets) { ::shutdown(socket, SHUT_RDWR); }
  }
  ::shutdown(m_state->listener, SHUT_RDWR);
  m_state->acceptor.join();
  for (std::thread& thread : m_state->threads) { thread.join(); }
  ::close(m_state->listener);
}

const std::string& EtcdProxy::endpoint() const
{
  return m_state->endpoint;
}

int EtcdProxy::count(const std::string& path) const
{
  const std::lock_guard guard(m_state->mutex);
  const auto found = m_state->counts.find(path);
  return found == m_state->counts.end() ? 0 : found->second;
}

std::chrono::nanoseconds EtcdProxy::first(const std::string& path) const
{
  const std::lock_guard guard(m_state->mutex);
  return m_state->firsts.at(path);
}

std::vector<std::string> EtcdProxy::deliver()
{
  std::vector<Request> kept;
  {
    const std::lock_guard guard(m_state->mutex);
    kept.swap(m_state->kept);
  }
  std::vector<std::string> answers;
  for (const Request& request : kept) { answers.push_back(m_state->answer(request).value_or("")); }
  return answers;
}

int EtcdProxy::kept() const
{
  const std::lock_guard guard(m_state->mutex);
  return static_cast<int>(m_state->kept.size());
}

void EtcdProxy::let_go()
{
  const std::lock_guard guard(m_state->mutex);
  m_state->lets_go = true;
  m_state->may_go.notify_all();
}

int EtcdProxy::held_back() const
{
  const std::lock_guard guard(m_state->mutex);
  return m_state->held_back;
}

} // namespace lockrun::testing
