#pragma once

#include "engines/net/http.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <poll.h>

namespace lockrun::engines::net {

// Connections that go on while something else is waited for. One that has its answers, or has failed, is closed; so
// is one that has too much to say.
class Background {
public:
  struct Task {
    std::size_t server;
    std::int64_t id; // what it is about
    HttpConnection connection;
    bool is_alive = false; // its server has shown a sign of life
  };
  struct Answers {
    std::size_t server;
    std::int64_t id;
    std::vector<HttpAnswer> answers;
  };

  void add(Task task) { m_tasks.push_back(std::move(task)); }
  std::vector<Task>& tasks() noexcept { return m_tasks; }
  const std::vector<Task>& tasks() const noexcept { return m_tasks; }

  // What they wait for, in the order of tasks(); and after that was waited for, the answers that have arrived.
  void add_interests(std::vector<::pollfd>& descriptors) const;
  std::vector<Answers> go_on(std::span<const ::pollfd> descriptors);

private:
  std::vector<Task> m_tasks;
};

} // namespace lockrun::engines::net
