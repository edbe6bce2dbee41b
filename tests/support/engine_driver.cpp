#include "support/engine_driver.hpp"

#include "support/temp_dir.hpp"

#include <stdexcept>
#include <system_error>
#include <utility>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

// Whoever waits for so long has failed.
constexpr int k_patience_ms = 60'000;

Process start_engine(const std::string& program, Start start, int& ours)
{
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  ours = ends[0];
  start.descriptors[0] = ends[1];
  start.descriptors[1] = ends[1];
  Process process({program}, start);
  ::close(ends[1]);
  return process;
}

} // namespace

EngineDriver::EngineDriver(const std::string& program, const std::string& url, Start start)
  : m_process(start_engine(program, std::move(start), m_socket))
{
  say(protocol::Message("LOCKRUN").with("version", protocol::k_version).with("url", url));
}

EngineDriver::EngineDriver(EngineDriver&& other) noexcept
  : m_socket(std::exchange(other.m_socket, -1)), m_process(std::move(other.m_process)),
    m_lines(std::move(other.m_lines))
{}

EngineDriver::~EngineDriver()
{
  hang_up();
}

void EngineDriver::hang_up()
{
  if (m_socket >= 0) { ::close(std::exchange(m_socket, -1)); }
}

void EngineDriver::say(const std::string& line)
{
  const std::string bytes = line + '\n';
  (void)!::send(m_socket, bytes.data(), bytes.size(), MSG_NOSIGNAL); // one that has ended is found out by hearing
}

void EngineDriver::say(const protocol::Message& message)
{
  std::string line = protocol::format(message);
  line.pop_back();
  say(line);
}

void EngineDriver::acquire(const std::string& wishes)
{
  say("ACQUIRE " + wishes + (wishes.empty() ? "" : " ") + "host=here pid=" + std::to_string(::getpid()) +
      " user=tester command=a%20test since_ms=1700000000000");
}

bool EngineDriver::has_said_something()
{
  ::pollfd readable{m_socket, POLLIN, 0};
  return ::poll(&readable, 1, 0) == 1;
}

std::optional<protocol::Message> EngineDriver::hear()
{
  for (;;) {
    std::string line;
    if (m_lines.next(line) == protocol::LineReader::State::line) {
      auto message = protocol::parse(line);
      if (!message) { throw std::runtime_error(std::string("'") + line + "': " + message.error()); }
      return std::move(*message);
    }
    ::pollfd readable{m_socket, POLLIN, 0};
    if (::poll(&readable, 1, k_patience_ms) != 1) { return std::nullopt; }
    char bytes[4096];
    const ssize_t count = ::recv(m_socket, bytes, sizeof bytes, 0);
    if (count <= 0) { return std::nullopt; }
    m_lines.add({bytes, static_cast<std::size_t>(count)});
  }
}

protocol::Message EngineDriver::hear(const std::string& verb, const std::string& or_verb)
{
  while (auto message = hear()) {
    if (message->is(verb) || message->is(or_verb)) { return *message; }
  }
  return {};
}

} // namespace lockrun::testing
