// Whether our libraries can be compiled without exceptions, and one of the C++ library ends the program where there are
// no tables for it.
#include <cstdlib>
#include <exception>
#include <string>

#include <nlohmann/json.hpp>
#include <spdlog/details/log_msg.h>
#include <spdlog/sinks/sink.h>

int main(int, char** argv)
{
  std::set_terminate([] { std::_Exit(0); });
  nlohmann::ordered_json json;
  json["x"] = argv[0];
  return json.dump().at(100000) == 'x' ? 1 : 2;
}
