// as_root COMMAND [ARG]...: run as a setuid-root copy, becomes root altogether and then COMMAND: a process that nobody
// but root may signal.

#include <unistd.h>

int main(int, char** argv)
{
  if (::setuid(0) != 0) { return 126; }
  ::execvp(argv[1], argv + 1);
  return 127;
}
