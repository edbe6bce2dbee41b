#pragma once

#include "child/supervise.hpp"
#include "cli/json.hpp"
#include "options/call.hpp"
#include "sys/descriptor.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>
#include <lockrun/status.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace lockrun::cli {

// --events: tells programs what happens to one call, a line for each event. Does nothing unless it is asked for. What
// cannot be written is lost, and told once: nothing here keeps a command from running or a lock from being freed.
class EventLog {
public:
  // The call begins.
  explicit EventLog(const Call& call);

  // Opens the file. To be called before any lock file is open, or a descriptor that the caller named
  // but did not open could be that one.
  void begin();

  void waiting(const LockRequest& request);
  void acquired(std::optional<int> slot, std::string_view token = {});
  void released();
  void overtime(const child::TimeLimit& limit);
  void lost(const std::string& reason); // once, however often it is said
  void finished(const Error& reason, int exit_code);
  void finished(const child::Ending& ending, int exit_code);
  // The lock is had or freed, and there is no command.
  void finished(int exit_code);

private:
  void complain(const SysError& error) const;
  EventHead head() const;
  void finish(Finish finish);
  void write(const std::string& line);

  const Call& m_call;
  sys::Descriptor m_file;
  bool m_is_on = false;
  pid_t m_pid = 0; // of the process that began it: a twin of ours tells of the same call
  bool m_has_complained = false;
  bool m_is_lost = false;
  std::chrono::nanoseconds m_began{}; // on the steady clock, like the other two
  std::optional<std::chrono::nanoseconds> m_acquired{};
  std::optional<std::chrono::nanoseconds> m_released{};
};

} // namespace lockrun::cli
