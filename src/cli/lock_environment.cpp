#include "cli/lock_environment.hpp"

#include "sys/process.hpp"

#include <string_view>

namespace lockrun::cli {
namespace {

using Assignments = std::vector<std::string>;

void add(Assignments& assignments, std::string_view name, std::string_view value)
{
  std::string& text = assignments.emplace_back();
  text.reserve(name.size() + 1 + value.size());
  text.append(name).append(1, '=').append(value);
}

class NestedVariables {
public:
  explicit NestedVariables(Assignments& assignments) : m_assignments(assignments)
  {
    while (sys::environment(("LOCKRUN_TOKEN_" + std::to_string(m_depth)).c_str()) != nullptr) { ++m_depth; }
  }

  void put(const std::string& name, std::string_view value)
  {
    if (!value.empty()) { add(m_assignments, name + "_" + std::to_string(m_depth), value); }
    // What this lock does not have must not seem to be that of the lock around it.
    if (!value.empty() || sys::environment(name.c_str()) != nullptr) { add(m_assignments, name, value); }
  }

private:
  Assignments& m_assignments;
  int m_depth = 1;
};

} // namespace

std::vector<std::string> lock_environment(const LockRequest& request, const LockFacts& facts)
{
  Assignments told;
  told.reserve(3);
  if (facts.token.empty()) {
    if (request.fd) {
      add(told, "LOCKRUN_LOCK", std::to_string(*request.fd));
    } else {
      add(told, "LOCKRUN_LOCK", request.path);
    }
    add(told, "LOCKRUN_PID", std::to_string(sys::process_id()));
    if (facts.slot) { add(told, "LOCKRUN_SLOT", std::to_string(*facts.slot)); }
    return told;
  }
  add(told, "LOCKRUN_PID", std::to_string(sys::process_id()));
  NestedVariables variables(told);
  variables.put("LOCKRUN_LOCK", request.path);
  variables.put("LOCKRUN_TOKEN", facts.token);
  const auto deadline =
    std::chrono::floor<std::chrono::milliseconds>(facts.deadline.value_or(std::chrono::nanoseconds(0)));
  variables.put("LOCKRUN_DEADLINE", std::to_string(deadline.count()));
  variables.put("LOCKRUN_KEY", facts.key);
  variables.put("LOCKRUN_TOKEN_EPOCH", facts.epoch);
  variables.put("LOCKRUN_SLOT", facts.slot ? std::to_string(*facts.slot) : "");
  return told;
}

} // namespace lockrun::cli
