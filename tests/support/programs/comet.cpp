// comet FD: a process that never stays where it is: it forks, its parent ends, and so on. Prints "flying" at the
// start. Ends with the end of file of FD.

#include <cstdlib>

#include <poll.h>
#include <unistd.h>

int main(int, char** argv)
{
  pollfd end{std::atoi(argv[1]), POLLIN, 0};
  (void)!::write(STDOUT_FILENO, "flying\n", 7); // seen to be missing
  while (::poll(&end, 1, 0) == 0) {
    if (::fork() > 0) { ::_exit(0); }
  }
  return 0;
}
