#include "support/programs.hpp"

namespace lockrun::testing {

std::string program(const std::string& name)
{
  return std::string(LOCKRUN_TEST_PROGRAMS) + "/" + name;
}

} // namespace lockrun::testing
