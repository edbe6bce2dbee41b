/* The smallest program that does what a lock tool must: open, lock, start, wait. What it costs is the floor. */
#include <fcntl.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

int main(int argc, char** argv)
{
  if (argc < 3) { return 64; }
  const int fd = open(argv[1], O_RDONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0 || flock(fd, LOCK_EX) != 0) { return 73; }
  pid_t child;
  if (posix_spawnp(&child, argv[2], 0, 0, argv + 2, environ) != 0) { return 127; }
  int status;
  if (waitpid(child, &status, 0) != child) { return 71; }
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
