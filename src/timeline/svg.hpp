#pragma once

#include "timeline/picture.hpp"

#include <cstddef>
#include <string>

namespace lockrun::timeline {

// The picture as an SVG of its own, which needs nothing else: so many pixels wide, as high as it must be.
std::string svg_picture(const Picture& picture, std::size_t width);

} // namespace lockrun::timeline
