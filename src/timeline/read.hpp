#pragma once

#include "timeline/call.hpp"

#include <cstddef>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace lockrun::timeline {

// Puts the lines of --events together again to calls. Lines that are none of them (torn by a full disk, or foreign) are
// counted and passed over.
class Reader {
public:
  void line(std::string_view text);
  // The calls of the next file are others, even if they have the same process id.
  void end_file() { m_unfinished.clear(); }

  std::size_t skipped() const { return m_skipped; }

  // Sorted by their beginning. Those without an end get the moment until which they may have lasted.
  std::vector<Call> calls() &&;

private:
  using Key = std::pair<std::int64_t, std::string>; // a call's events have in common the process id and the lock

  bool take(const nlohmann::json& event);
  Call& start(const Key& key, WallTime begin);
  Call& resume(const Key& key, WallTime begin);
  void finish(const nlohmann::json& event, const Key& key, WallTime time);

  std::vector<Call> m_calls;
  std::map<Key, std::size_t> m_unfinished; // their places in m_calls
  WallTime m_last = WallTime::min();
  std::size_t m_skipped = 0;
};

} // namespace lockrun::timeline
