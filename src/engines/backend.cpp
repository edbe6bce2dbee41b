#include "engines/backend.hpp"

#include <sysexits.h>
#include <utility>

#include <fmt/format.h>

namespace lockrun::engines {

std::string words_of(const Owner& owner)
{
  return fmt::format("PID {} ({}, user {}) on {}", owner.pid, owner.command, owner.user, owner.host);
}

Failure usage(std::string text, std::string hint)
{
  return {EX_USAGE, "usage", std::move(text), {}, std::move(hint)};
}

Failure interruption()
{
  return {EX_TEMPFAIL, k_interrupted, {}};
}

Failure loss(std::string text, Instant sure_until)
{
  Failure lost{EX_TEMPFAIL, k_lost, std::move(text)};
  lost.sure_until = sure_until;
  return lost;
}

} // namespace lockrun::engines
