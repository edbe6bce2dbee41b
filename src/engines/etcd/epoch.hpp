#pragma once

#include "engines/etcd/client.hpp"
#include "engines/etcd/history.hpp"

#include <optional>
#include <string>

namespace lockrun::engines::etcd {

// Which history of the cluster our token belongs to: tokens are revisions, and those of different histories cannot be
// compared.
class Epoch {
public:
  explicit Epoch(Client& client) : m_client(client) {}

  // What a server said of itself, and the key of the epoch, both just before our own key was made.
  void take(const Reply<Answer>& status, const Reply<Answer>& marker);

  // Asks for what is not known yet, and writes the key of the epoch if the cluster has none.
  Result<void, Failure> learn(const Limits& limits);

  // As lockrun is told; empty: unknown, because we may not read or write that key.
  std::string text() const { return m_text.value_or(std::string()); }

private:
  Result<void, Failure> replace_marker(const Limits& limits);

  Client& m_client;
  LogPosition m_position;
  std::optional<Marker> m_marker;
  std::optional<std::string> m_text; // none: not known yet
};

} // namespace lockrun::engines::etcd
