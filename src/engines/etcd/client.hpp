#pragma once

#include "engines/backend.hpp"
#include "engines/etcd/json.hpp"
#include "engines/net/servers.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lockrun::engines::etcd {

// The term of the leader in which a server has given this answer, or as much of it as the server knows.
std::int64_t term_of(const Json& answer);

// The revision of all keys, as far as the server has come.
std::int64_t revision_of(const Json& answer);

using net::Limits;
using net::Reply;
using net::Trouble;

struct Answer {
  Json body;
  Instant asked{0};       // just before the sending that was answered
  Instant first_asked{0}; // just before the first sending of this call
};

// Events of keys, or of all keys with a prefix.
class Watch {
public:
  explicit Watch(net::HttpConnection connection) : m_connection(std::move(connection)) {}
  int descriptor() const noexcept { return m_connection.descriptor(); }

  struct News {
    bool is_over = false; // open another one
    bool has_events = false;
  };
  // What has arrived; never blocks, and is over when that is more than a server has to say.
  News take();

private:
  net::HttpConnection m_connection;
  std::string m_rest;        // a line that is still incomplete
  std::size_t m_useless = 0; // bytes since the last event
};

// etcd as seen through its HTTP gateway.
class Client {
public:
  explicit Client(const Attention& attention);

  // Takes endpoints, user and TLS files.
  Result<void, Failure> open(const Url& url);

  // One request. Asks other endpoints where that can help, and authenticates where that is needed.
  Reply<Answer> call(const char* path, const Json& request, const Limits& limits);

  // Several requests in one go, each of which the server answers before it looks at the next one. None: something was
  // in the way, which the next call() tells if it fails, too; ask one after the other.
  struct Request {
    const char* path;
    Json body;
  };
  std::optional<std::vector<Reply<Answer>>> call_all(const std::vector<Request>& requests, const Limits& limits);

  // For all of these, on a connection of its own.
  Reply<Watch> watch(const std::vector<Json>& requests, const Limits& limits);

  // Whether the endpoints belong to one cluster, as far as they can be reached; they are asked in the background of the
  // first call. Waits for them, but neither for long nor for those that are silent.
  Reply<void> agree(Instant until);

  // The same of what has arrived since, without waiting.
  Reply<void> agree();

  // Sends this also where a call known as `late` has no answer yet (net::Servers); and waits for those.
  void recall(std::int64_t late, const char* path, const Json& request);
  void await_late(Instant until) { m_servers.await_late(until); }

  // The next request does not come soon: the connection that is kept for it may be closed.
  void rest() { m_servers.rest(); }

  // The identifier of the cluster, in hexadecimal.
  std::string cluster() const;

  // Which endpoint answered last.
  std::size_t endpoint() const noexcept { return m_servers.current(); }
  std::size_t endpoints() const noexcept { return m_servers.size(); }
  Instant last_asked() const noexcept { return m_servers.last_asked(); }

private:
  Result<void, Failure> take_account(const Url& url);
  Reply<std::vector<Reply<Answer>>> ask(const std::vector<Request>& requests, const Limits& limits);
  Reply<net::Exchange> exchange(const std::vector<Request>& requests, const Limits& limits);
  Reply<Json> json_from(const char* path, const net::HttpAnswer& answer);
  Reply<void> authenticate(const Limits& limits);

  net::Servers m_servers;
  const Attention& m_attention;
  std::string m_user;
  std::string m_password;
  std::string m_token;
  bool m_is_auth_off = false; // so the server says
  std::string m_cluster;      // as its first answer names it
  bool m_is_surveyed = false;
  std::vector<std::string> m_clusters; // by endpoint; empty: it has not said
};

} // namespace lockrun::engines::etcd
