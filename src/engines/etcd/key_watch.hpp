#pragma once

#include "engines/backoff.hpp"
#include "engines/etcd/client.hpp"

#include <optional>
#include <string>
#include <vector>

namespace lockrun::engines::etcd {

// The watch that brings news of the queue. There is one at a time, at the server that answered last; after one that a
// server refused or ended the next one waits for a while.
class KeyWatch {
public:
  explicit KeyWatch(Client& client) : m_client(client) {}

  // Watches `key`, or another thing that this names, by these requests, unless it does so already or has to wait. Only
  // an interruption is an error: what else is wrong the next renewal finds out. `ttl` is that of our lease.
  Reply<void> open(const std::string& key, const std::vector<Json>& requests, milliseconds ttl, const Limits& limits);
  void close() { m_watch.reset(); }

  // Whether it is open, at the server that answered last.
  bool is_open() const { return m_watch.has_value(); }
  bool is_current() const { return m_watch && m_endpoint == m_client.endpoint(); }

  // Whether something has happened, or another watch is due, which only a look at the queue opens. Never blocks.
  bool has_news(milliseconds ttl);

  // When another watch is due, if one has to wait.
  std::optional<Instant> due() const noexcept { return m_due; }

  std::vector<::pollfd> interests() const;

private:
  void put_off(milliseconds ttl);

  Client& m_client;
  std::optional<Watch> m_watch;
  std::string m_key;
  std::size_t m_endpoint = 0;
  Backoff m_pauses{milliseconds(200), milliseconds(60'000)};
  std::optional<Instant> m_due; // until then there is none
};

} // namespace lockrun::engines::etcd
