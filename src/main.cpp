#include <cstdio>

#include <lockrun/version.hpp>

int main()
{
  return std::printf("lockrun %s\n", lockrun::k_version) < 0 ? 1 : 0;
}
