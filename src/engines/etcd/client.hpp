#pragma once

#include "engines/etcd/http.hpp"
#include "engines/etcd/json.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lockrun::engines::etcd {

// The term of the leader in which a server has given this answer, or as much of it as the server knows.
std::int64_t term_of(const Json& answer);

// How long a call may go on.
struct Limits {
  Moment until{0};         // in all
  milliseconds one_try{0}; // for one endpoint's answer
  bool rides_out = false;  // goes round while one of them may come back; otherwise each is asked once
};

struct Answer {
  Json body;
  Moment asked{0}; // just before the try that was answered
};

// Events of a key, or of all keys with a prefix.
class Watch {
public:
  explicit Watch(HttpConnection connection) : m_connection(std::move(connection)) {}
  int descriptor() const noexcept { return m_connection.descriptor(); }

  struct News {
    bool is_over = false; // open another one
    bool has_events = false;
    bool has_deletions = false;
  };
  // What has arrived; never blocks.
  News take();

private:
  HttpConnection m_connection;
  std::string m_rest; // a line that is still incomplete
};

// etcd as seen through its HTTP gateway: one connection, to one of the endpoints, changed when that fails.
class Client {
public:
  explicit Client(const Attention& attention) : m_attention(attention) {}

  // Takes endpoints, user and TLS files.
  Outcome<void> open(const Url& url);

  // One request. Tries other endpoints where that can help, and authenticates where that is needed.
  Reply<Answer> call(const char* path, const Json& request, const Limits& limits);

  // Two requests in one go, of which the server answers the first before it looks at the second. None: something was in
  // the way, which the next call() tells if it fails, too; ask one after the other.
  std::optional<std::pair<Answer, Answer>> call_both(
    const char* first_path, const Json& first, const char* second_path, const Json& second, const Limits& limits);

  // On a connection of its own to the endpoint that answered last.
  Reply<Watch> watch(const Json& request, const Limits& limits);

  // The latest term of a leader that an answer has shown; 0: none yet. What is asked for from now on happens in this
  // term or a later one.
  std::int64_t term() const noexcept { return m_term; }

  // Which endpoint that is.
  std::size_t endpoint() const noexcept { return m_current; }
  std::size_t endpoints() const noexcept { return m_servers.size(); }

private:
  Reply<Answer> try_once(const char* path, const Json& request, Moment until);
  Reply<std::pair<Answer, Answer>> try_both(
    const char* first_path, const Json& first, const char* second_path, const Json& second, Moment until);
  Reply<Json> json_from(const HttpAnswer& answer);
  Reply<void> ensure_connection(Moment until);
  Reply<HttpAnswer> exchange(const char* path, const std::string& body, Moment until, Moment& asked);
  Reply<HttpConnection> connect(Moment until);
  Reply<void> authenticate(Moment until);
  HttpRequest request_to(const char* path, std::string body) const;
  void next_endpoint();

  struct Server {
    Endpoint endpoint;
    std::vector<sys::SocketAddress> addresses; // empty: not looked up yet
  };

  const Attention& m_attention;
  std::vector<Server> m_servers;
  std::vector<std::optional<Trouble>> m_said; // by them, to call_both()
  std::size_t m_current = 0;
  std::optional<HttpConnection> m_connection;
  bool m_uses_tls = false;
  TlsFiles m_files;
  TlsContext m_context;
  std::string m_user;
  std::string m_password;
  std::string m_token;
  std::int64_t m_term = 0;
};

} // namespace lockrun::engines::etcd
