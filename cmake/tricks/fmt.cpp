// Whether fmt can do without what we do not need of it.
#include <fmt/format.h>

int main(int argc, char**)
{
  return fmt::format("{:>3} {}", argc, "x") == "  1 x" ? 0 : 1;
}
