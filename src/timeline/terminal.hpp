#pragma once

#include "timeline/picture.hpp"

#include <cstddef>
#include <string>

namespace lockrun::timeline {

enum class Colours { none, ansi };
enum class Glyphs { ascii, unicode };

struct Paper {
  std::size_t columns = 80;
  Colours colours = Colours::none;
  Glyphs glyphs = Glyphs::unicode;
};

// The picture as lines of text. Few calls of a lock get a row each; more are packed into lanes; where that makes too
// many rows, it is drawn how many waited and held at each time.
std::string terminal_picture(const Picture& picture, const Paper& paper);

} // namespace lockrun::timeline
