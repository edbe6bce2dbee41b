#include "support/eventually.hpp"

#include <thread>

namespace lockrun::testing {

bool eventually(const std::function<bool()>& predicate, std::chrono::seconds limit)
{
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!predicate()) {
    if (std::chrono::steady_clock::now() >= end) { return false; }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

} // namespace lockrun::testing
