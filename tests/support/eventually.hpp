#pragma once

#include <chrono>
#include <functional>

namespace lockrun::testing {

// Whether `predicate` becomes true within `limit`. For what only /proc tells: the one place that looks again and again.
// What a process can say itself, it says through a pipe. The limit is for a machine that is busy: a test that needs it
// has failed.
bool eventually(const std::function<bool()>& predicate, std::chrono::seconds limit = std::chrono::seconds(60));

} // namespace lockrun::testing
