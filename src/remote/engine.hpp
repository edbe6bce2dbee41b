#pragma once

#include "protocol/protocol.hpp"
#include "sys/descriptor.hpp"
#include "sys/program.hpp"
#include "sys/signal.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// Our end of the conversation with an engine program, which holds a lock beyond this machine for us: lockrun-engine(7).
namespace lockrun::remote {

// "etcd" of "etcd://host/name", in lower case; empty if that is no URL, but the name of a file. A URL begins with a
// letter or a digit, then letters, digits, '+', '-' and '.', and "://". Whether there is such an engine is not asked.
std::string engine_name(std::string_view lock);

// What it is asked for, besides the request.
struct EngineQuestion {
  const LockRequest& request;
  std::chrono::nanoseconds ttl{}; // 0: the engine's default
  std::string command;            // for others to see
  sys::SignalSet ended_by;        // signals that end the wait; the caller has blocked them
};

// A lock that the engine holds.
struct EngineLease {
  std::string token;
  std::string epoch;
  std::string key;
  std::optional<int> slot;
  std::chrono::nanoseconds deadline{}; // on the elapsed clock
  std::chrono::nanoseconds ttl{};
  bool is_ancestors = false; // nothing was granted: the lock of an ancestor of ours covers what was asked for
};

// Is told what happens while we wait.
class EngineListener {
public:
  virtual ~EngineListener() = default;
  // Called as often as it asks for: returns how long until it wants to be called again. `waited` is since the
  // beginning.
  virtual std::chrono::nanoseconds waiting(
    std::chrono::nanoseconds waited, const std::string& holder, std::optional<std::int64_t> position) = 0;
  virtual void trouble(const std::string& text) = 0;
};

class Engine {
public:
  // Starts lockrun-engine-NAME, out of $LOCKRUN_ENGINE_PATH or the place where it is installed. It gets a session of
  // its own, so that the keys of our terminal are none of its business. Besides the signals in `inherited` it blocks
  // those that end a call: it ends when we tell it to, or are gone.
  static Result<Engine, Error> start(std::string_view name, const sys::SignalSet& inherited);

  Engine(Engine&& other) noexcept;
  Engine& operator=(Engine&&) = delete;
  ~Engine(); // leaves: what is held runs out by itself, what is waited for is given up

  // Asks for the lock at `url` and waits for it, within the limits of the request and some of our own: an engine that
  // says nothing does not hold us up.
  Result<EngineLease, Error> acquire(const std::string& url, const EngineQuestion& question, EngineListener& listener);

  // Who holds the lock, and who waits: HOLDER and WAITER messages as they came.
  Result<std::vector<protocol::Message>, Error> status(const std::string& url);

  // While it is held.
  struct Event {
    enum class Kind { none, renewed, trouble, lost };
    Kind kind = Kind::none;
    std::chrono::nanoseconds deadline{}; // renewed, lost: until when it is certainly ours; k_as_before: as we know
    std::string text{};                  // trouble, lost
  };
  static constexpr std::chrono::nanoseconds k_as_before = std::chrono::nanoseconds::max();
  Event next_event();
  const sys::Descriptor& socket() const noexcept { return m_socket; } // closed after a loss that leaves nothing to hear

  // Gives the lock back and waits until it is gone, for `patience` at most. Whether the engine said so, or else what
  // it said.
  enum class Release { done, unknown, was_lost };
  Release release(std::chrono::nanoseconds patience);

  // Gives nothing back: the lock runs out by itself.
  void abandon();

  // In a copy of this process, whose original is gone: gives the lock back, without hearing what becomes of it.
  void release_unheard();

  pid_t pid() const noexcept { return m_pid; }

private:
  Engine(std::string name, std::string path, sys::Launch launch, sys::Descriptor socket);

  struct Heard {
    enum class Kind { message, nothing, end, nonsense };
    Kind kind = Kind::nothing;
    protocol::Message message{};
    std::string complaint{};
  };
  Heard hear();
  // The next message before `until` on the steady clock; `nothing` when the time is up or another source is ready.
  Heard await(std::optional<std::chrono::nanoseconds> until, const sys::Descriptor* other = nullptr);
  // False if the engine does not read. One that has ended is found out by hearing: after what it said last.
  bool say(const std::string& lines);
  // What the engine is, or why it did not say so before `until`, or before one of `signals` came.
  Result<protocol::Message, Error> greet(const std::string& url, const protocol::Message* wish,
    std::optional<std::chrono::nanoseconds> until, const sys::Descriptor* signals);
  Error failure_of(const Heard& heard) const;
  static Error failure_of(const protocol::Message& failed);
  Error deaf() const;
  struct Asking;
  std::optional<Error> reason_to_stop(Asking& asking, const sys::Descriptor& signals);
  std::optional<Result<EngineLease, Error>> answer_in(const protocol::Message& message, Asking& asking);
  static Error refusal_in(const protocol::Message& message, Asking& asking);
  std::optional<Result<EngineLease, Error>> waiting_in(const protocol::Message& message, Asking& asking);
  Result<EngineLease, Error> check(const protocol::Message& held);

  std::string m_name;
  std::string m_path;
  sys::Launch m_launch;
  pid_t m_pid = 0;
  sys::Descriptor m_process; // of the engine; not open on old kernels
  sys::Descriptor m_socket;
  protocol::LineReader m_lines;
  std::chrono::nanoseconds m_ttl{};
  bool m_is_stuck = false; // it has not answered when it had to: there is no use in waiting for its end
};

} // namespace lockrun::remote
