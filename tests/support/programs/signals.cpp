// signals FD: prints "ready PID", then the name of each signal that it gets. Ends with 0 at the end of file of FD.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

int main(int, char** argv)
{
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  pollfd sources[] = {{::signalfd(-1, &all, SFD_CLOEXEC), POLLIN, 0}, {std::atoi(argv[1]), POLLIN, 0}};
  (void)::dprintf(STDOUT_FILENO, "ready %d\n", ::getpid());
  while (::poll(sources, 2, -1) > 0) {
    if (sources[0].revents != 0) {
      signalfd_siginfo signal{};
      if (::read(sources[0].fd, &signal, sizeof signal) != static_cast<ssize_t>(sizeof signal)) { return 1; }
      // With nobody to read, each line would bring a SIGPIPE to be told of.
      if (::dprintf(STDOUT_FILENO, "%s\n", ::sigabbrev_np(static_cast<int>(signal.ssi_signo))) < 0) { return 1; }
    } else {
      return 0;
    }
  }
  return 1;
}
