#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace lockrun::timeline {

// A moment on the wall clock, since 1970, as events say it. Spans of time are `microseconds`.
using std::chrono::microseconds;
using WallTime = microseconds;

// What became of a call; the later in this list, the more one wants to see it.
enum class Fate {
  ran,
  open,
  interrupted,
  busy,
  timed_out,
  command_failed,
  overtime,
  lost,
  deadlock,
  exec_failed,
  failed
};
inline constexpr int k_fates = 11;

// One call of lockrun: it waits from `begin` to `acquired`, or to `end` if it never got the lock, and holds until
// `end`.
struct Call {
  std::string lock;
  std::string command; // empty: none
  std::int64_t pid = 0;
  bool is_shared = false;
  bool has_slot = false;
  WallTime begin{};
  std::optional<WallTime> acquired{};
  WallTime end{};         // when `fate` is open, the last moment at which it may have been there
  Fate fate = Fate::open; // its last event is missing: it runs still, was killed, or gave the lock away
  std::string details{};  // "exit 3", "SIGTERM", "held by PID 4312 (rsync -a)"; may be empty
  microseconds waited() const { return acquired.value_or(end) - begin; }
  microseconds held() const { return acquired ? end - *acquired : microseconds(0); }
};

} // namespace lockrun::timeline
