// Whether programs can be compiled, linked and run so.
#include <string>

int main(int, char** argv)
{
  return std::string(argv[0]).empty() ? 1 : 0;
}
