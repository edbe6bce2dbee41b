#pragma once

#include "timeline/call.hpp"

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lockrun::timeline {

// What is drawn, before it is known how.

struct Lock {
  std::string name;
  std::vector<const Call*> calls; // sorted by their beginning
};

struct Picture {
  WallTime begin{};
  WallTime end{};          // later than `begin`
  std::vector<Lock> locks; // sorted by their first call
  std::size_t calls = 0;
};

struct Selection {
  std::string lock;                 // only locks whose name has this in it
  std::optional<microseconds> last; // only what happened in this time before the end
};

// Points into `calls`.
Picture picture_of(const std::vector<Call>& calls, const Selection& selection);

// Calls that do not touch one another: at least `gap` is between them.
using Lane = std::vector<const Call*>;

// As few lanes as possible; a call stands in the first one where it has room.
std::vector<Lane> pack(const std::vector<const Call*>& calls, microseconds gap);

// Moments with round numbers, at most `count` of them, in local time; below a second from the beginning on.
struct Tick {
  WallTime at;
  std::string text;
};
std::vector<Tick> ticks(const Picture& picture, std::size_t count);

// How a fate looks. The letter stands for it where there is no colour; no letter: it needs none.
struct Look {
  const char* name;  // one word, for classes of SVG
  const char* words; // for people
  char letter;
  const char* terminal; // colour: the parameters of SGR (ECMA-48)
  const char* light;    // colour, on paper
};
const Look& look_of(Fate fate);

// How often each fate is there.
using Fates = std::map<Fate, std::size_t>;
Fates fates_of(const Picture& picture);
bool has_shared(const Picture& picture);

// Words, all of them harmless for a terminal.
std::string command_of(const Call& call);        // or the process id
std::string note_of(const Call& call);           // "12s", "busy", "exit 3"
std::string story_of(const Call& call);          // all that is known, several lines
std::string summary_of(const Lock& lock);        // "12 calls; held 87%, waited at most 12s; 9 ran, 3 busy"
std::string headline_of(const Picture& picture); // "20 calls of 2 locks, 2026-11-23 14:05:09 to 14:07:21 CET (2m12s)"

} // namespace lockrun::timeline
