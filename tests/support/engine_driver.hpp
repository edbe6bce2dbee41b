#pragma once

#include "protocol/protocol.hpp"
#include "support/process.hpp"

#include <chrono>
#include <optional>
#include <string>

namespace lockrun::testing {

// An engine program, spoken to as lockrun does.
class EngineDriver {
public:
  // Starts it and says LOCKRUN with this URL. `start` adds to the environment and the like.
  EngineDriver(const std::string& program, const std::string& url, Start start = {});
  ~EngineDriver();
  EngineDriver(EngineDriver&&) noexcept;
  EngineDriver& operator=(EngineDriver&&) = delete;

  void say(const protocol::Message& message);
  void say(const std::string& line);            // without its newline
  void acquire(const std::string& wishes = {}); // ACQUIRE, with key=value… for what is not the default
  void hang_up();                               // closes our end

  // The next message; none at the end, or when nothing has come for so long that nothing will.
  std::optional<protocol::Message> hear();

  // The next one of these that comes; others are passed over. One without a verb when none does.
  protocol::Message hear(const std::string& verb, const std::string& or_verb = {});

  // Whether anything has come that was not heard yet.
  bool has_said_something();

  pid_t pid() const noexcept { return m_process.pid(); }
  void signal(int number) const { m_process.signal(number); }
  WaitStatus wait() { return m_process.wait().status; }

private:
  int m_socket = -1;
  Process m_process;
  protocol::LineReader m_lines;
};

} // namespace lockrun::testing
