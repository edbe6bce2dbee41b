#include "engines/net/background.hpp"

#include <utility>

namespace lockrun::engines::net {
namespace {

constexpr std::size_t k_most_bytes = 1 << 20U; // of answers that are not complete, of all together

} // namespace

void Background::add_interests(std::vector<::pollfd>& descriptors) const
{
  for (const Task& task : m_tasks) {
    descriptors.push_back({task.connection.descriptor(), task.connection.events(), 0});
  }
}

std::vector<Background::Answers> Background::go_on(std::span<const ::pollfd> descriptors)
{
  std::vector<Answers> arrived;
  std::vector<Task> rest;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < m_tasks.size(); ++i) {
    Task& task = m_tasks[i];
    if (i < descriptors.size() && descriptors[i].revents != 0) {
      const auto progress = task.connection.advance();
      if (!progress) { continue; }
      if (*progress == Progress::done) {
        arrived.push_back({task.server, task.id, task.connection.take_answers()});
        continue;
      }
      task.is_alive = true;
    }
    bytes += task.connection.size();
    if (bytes <= k_most_bytes) { rest.push_back(std::move(task)); }
  }
  m_tasks = std::move(rest);
  return arrived;
}

} // namespace lockrun::engines::net
