#pragma once

#include <filesystem>
#include <string>

namespace lockrun::testing {

// Sees whether two were ever inside at once: a marker is made with O_EXCL on the way in and removed on the way out. May
// be used by any number of processes; each meeting and each visit adds a byte to a file. A test that trusts it has a
// twin without the lock, in which it must see a meeting.
class Witness {
public:
  explicit Witness(const std::filesystem::path& directory);
  void visit() const;                 // in and out, and lets others run in between
  std::string visit_in_shell() const; // the same as a line for /bin/sh
  int meetings() const;
  int visits() const;

private:
  std::filesystem::path m_marker;
  std::filesystem::path m_meetings;
  std::filesystem::path m_visits;
};

} // namespace lockrun::testing
