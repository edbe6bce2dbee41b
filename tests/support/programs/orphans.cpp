// orphans FD: makes orphans on and on, some of which live at any time. Ends with the end of file of FD, and so do they.

#include <csignal>
#include <cstdlib>

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int, char** argv)
{
  constexpr int k_lifetime = 20; // ms
  constexpr int k_pause = 1;     // ms; else a slow machine, or a sanitizer, runs out of numbers for processes
  pollfd end{std::atoi(argv[1]), POLLIN, 0};
  while (::poll(&end, 1, k_pause) == 0) {
    const pid_t parent = ::fork();
    if (parent == 0) {
      if (::fork() == 0) { (void)::poll(&end, 1, k_lifetime); }
      ::_exit(0);
    }
    if (parent > 0) { (void)::waitpid(parent, nullptr, 0); }
  }
  return 0;
}
