#pragma once

#include "sys/descriptor.hpp"
#include "sys/program.hpp"
#include "sys/signal.hpp"

#include <lockrun/error.hpp>

#include <string>
#include <string_view>

#include <sys/types.h>

namespace lockrun::remote {

// "etcd" of "etcd://host/name", in lower case; empty if that is no URL, but the name of a file. A URL begins with a
// letter or a digit, then letters, digits, '+', '-' and '.', and "://". Whether there is such an engine is not asked.
std::string engine_name(std::string_view lock);

// No engine program could be started, or none that can be talked to. `path` is that of the program; empty: it did not
// come so far.
Error engine_not_started(SysError cause, std::string path = {});

// An engine program that runs, and our end of the socket to it.
class EngineProgram {
public:
  // Starts lockrun-engine-NAME, out of $LOCKRUN_ENGINE_PATH or the directory where it is installed. It gets a session
  // of its own, so that the keys of our terminal are none of its business. Besides the signals in `inherited` it blocks
  // those that end a call: it ends when we close the socket, or have ended.
  static Result<EngineProgram, Error> start(std::string_view name, const sys::SignalSet& inherited);

  EngineProgram(EngineProgram&& other) noexcept;
  EngineProgram& operator=(EngineProgram&&) = delete;
  ~EngineProgram(); // ends it: what is held runs out by itself, what is waited for is given up

  const std::string& name() const noexcept { return m_name; } // with lockrun-engine- in front
  pid_t pid() const noexcept { return m_pid; }
  const sys::Descriptor& socket() const noexcept { return m_socket; }
  void close_socket() { m_socket = sys::Descriptor(); }

  // Whether it has not answered when it had to: then there is no use in waiting for its end.
  void set_stuck(bool is_stuck) noexcept { m_is_stuck = is_stuck; }

  // Why it has ended, when it has closed its end of the socket.
  Error why_ended() const;

private:
  EngineProgram(std::string name, std::string path, sys::Launch launch, sys::Descriptor socket);

  std::string m_name;
  std::string m_path;
  sys::Launch m_launch;
  pid_t m_pid = 0;
  sys::Descriptor m_process; // not open on old kernels
  sys::Descriptor m_socket;
  bool m_is_stuck = false;
};

} // namespace lockrun::remote
