#include "remote/engine_program.hpp"

#include "remote/engine_messages.hpp"
#include "sys/channel.hpp"
#include "sys/file.hpp"
#include "sys/proc.hpp"
#include "sys/process.hpp"
#include "text/ascii.hpp"
#include "text/quote.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>
#include <vector>

#include <sys/wait.h>

namespace lockrun::remote {
namespace {

using Failed = tl::unexpected<Error>;

// For leaving a queue, and for ending.
constexpr std::chrono::seconds k_farewell{1};

// Where engine programs are looked for, in this order.
std::vector<std::string> engine_directories()
{
  std::vector<std::string> found;
  if (const char* const listed = sys::environment("LOCKRUN_ENGINE_PATH"); listed != nullptr && *listed != '\0') {
    std::string_view rest = listed;
    while (!rest.empty()) {
      const std::string_view directory = rest.substr(0, rest.find(':'));
      rest.remove_prefix(std::min(rest.size(), directory.size() + 1));
      if (!directory.empty()) { found.emplace_back(directory); }
    }
    return found;
  }
  const auto program = sys::program_path();
  if (!program) { return {LOCKRUN_ENGINES}; }
  const std::string ours = program->substr(0, program->rfind('/'));
  if (LOCKRUN_ENGINES[0] == '/') { return {LOCKRUN_ENGINES, ours}; }
  return {ours + "/" + LOCKRUN_ENGINES, ours}; // wherever the whole was moved to; and where it was built
}

} // namespace

std::string engine_name(std::string_view lock)
{
  const auto end = lock.find("://");
  if (end == std::string_view::npos || !text::is_letter_or_digit(lock.front())) { return {}; }
  std::string name(lock.substr(0, end));
  const auto fits = [](char c) { return text::is_letter_or_digit(c) || c == '+' || c == '-' || c == '.'; };
  if (!std::all_of(name.begin(), name.end(), fits)) { return {}; }
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  std::transform(name.begin(), name.end(), name.begin(), lower);
  return name;
}

Error engine_not_started(SysError cause, std::string path)
{
  Error error{Reason::engine_not_started, {}, cause};
  error.detail = std::move(path);
  return error;
}

Result<EngineProgram, Error> EngineProgram::start(std::string_view name, const sys::SignalSet& inherited)
{
  sys::SignalSet mask = inherited;
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) { mask.add(signal); }
  auto pair = sys::socket_pair(sys::SocketKind::stream);
  if (!pair) { return Failed(engine_not_started(pair.error())); }
  const std::string program_name = "lockrun-engine-" + std::string(name);
  Error missing = engine_error(Reason::engine_missing, program_name);
  for (const std::string& directory : engine_directories()) {
    missing.hint += (missing.hint.empty() ? "it is not in " : " and ") + text::quoted(directory);
    std::string path(directory);
    path.append("/").append(program_name);
    const auto found = sys::stat(path.c_str());
    if (!found && (found.error().code == ENOENT || found.error().code == ENOTDIR)) { continue; }
    char* const argv[] = {path.data(), nullptr};
    sys::Program program{};
    program.file = path.c_str();
    program.argv = argv;
    program.mask = mask;
    program.talks_to = &pair->theirs;
    const auto started = sys::start(program);
    if (!started) { return Failed(engine_not_started(started.error(), path)); }
    return EngineProgram(program_name, path, *started, std::move(pair->ours));
  }
  return Failed(std::move(missing));
}

EngineProgram::EngineProgram(std::string name, std::string path, sys::Launch launch, sys::Descriptor socket)
  : m_name(std::move(name)), m_path(std::move(path)), m_launch(launch), m_pid(launch.pid()), m_socket(std::move(socket))
{
  if (auto process = sys::open_process(m_pid)) { m_process = std::move(*process); }
}

EngineProgram::EngineProgram(EngineProgram&& other) noexcept
  : m_name(std::move(other.m_name)), m_path(std::move(other.m_path)), m_launch(other.m_launch),
    m_pid(std::exchange(other.m_pid, 0)), m_process(std::move(other.m_process)), m_socket(std::move(other.m_socket)),
    m_is_stuck(other.m_is_stuck)
{}

EngineProgram::~EngineProgram()
{
  if (m_pid == 0) { return; }
  close_socket(); // at the end of file it leaves
  if (m_process.is_open() && !m_is_stuck) { (void)sys::wait_readable({&m_process}, k_farewell); }
  const auto change = sys::wait_child(m_pid, WEXITED | WNOHANG);
  if (!change || *change) { return; } // it is gone
  // Stuck or stopped: what it has runs out by itself.
  (void)sys::kill(m_pid, SIGKILL);
  if (m_process.is_open()) { (void)sys::wait_readable({&m_process}, k_farewell); }
  (void)sys::wait_child(m_pid, WEXITED | WNOHANG); // if it is still there, it sits in the kernel
}

Error EngineProgram::why_ended() const
{
  if (const auto failure = m_launch.failure()) { return engine_not_started(*failure, m_path); }
  return engine_error(Reason::engine_ended, m_name);
}

} // namespace lockrun::remote
