// Whether src/startup/iostream_init.cpp keeps the standard streams from being made: they have no table of functions
// then.
#include <cstring>
#include <iostream>

int main()
{
  void* table = nullptr;
  std::memcpy(&table, static_cast<const void*>(&std::cout), sizeof table);
  return table == nullptr ? 0 : 1;
}
