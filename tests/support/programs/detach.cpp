// detach COMMAND [ARG]...: starts COMMAND as a daemon, forked twice and in a session of its own, with all descriptors
// that are open. Ends with 0 once it runs.

#include <cerrno>
#include <cstdlib>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int, char** argv)
{
  int started[2];
  if (::pipe2(started, O_CLOEXEC) != 0) { return 1; }
  if (::fork() == 0) {
    ::setsid();
    if (::fork() == 0) {
      ::execvp(argv[1], argv + 1);
      (void)!::write(started[1], "x", 1); // nobody to tell
    }
    ::_exit(0);
  }
  ::close(started[1]);
  ::wait(nullptr);
  char failed = 0;
  return ::read(started[0], &failed, 1) == 0 ? 0 : 1; // end of file: closed by exec
}
