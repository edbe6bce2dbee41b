// Whether a variable of the C++ library can be defined as src/startup/terminate.cpp does.
#include <cstdlib>
#include <exception>

namespace __cxxabiv1 {
extern std::terminate_handler __terminate_handler;
std::terminate_handler __terminate_handler = [] { std::_Exit(0); };
} // namespace __cxxabiv1

int main()
{
  throw 1;
}
