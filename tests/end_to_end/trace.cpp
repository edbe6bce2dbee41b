#include "end_to_end/trace.hpp"

#include <system_error>

namespace lockrun::testing {

bool can_trace()
{
  try {
    return run_program({"strace", "-o", "/dev/null", "true"}).status == exited(0);
  } catch (const std::system_error&) {
    return false;
  }
}

std::vector<std::string> traced(
  const std::string& log, const std::vector<std::string>& how, const std::vector<std::string>& arguments)
{
  std::vector<std::string> argv{"strace", "-qq", "-o", log};
  argv.insert(argv.end(), how.begin(), how.end());
  const auto program = lockrun_argv(arguments);
  argv.insert(argv.end(), program.begin(), program.end());
  return argv;
}

} // namespace lockrun::testing
