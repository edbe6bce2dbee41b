// Whether src/startup/late_init.ld keeps objects of a unit of this name from being made before main().
#include <unistd.h>

extern "C" {
extern void (*const lockrun_late_init_begin[])() __attribute__((weak, visibility("hidden")));
extern void (*const lockrun_late_init_end[])() __attribute__((weak, visibility("hidden")));
}

volatile int made = ::getpid();

int main()
{
  if (made != 0 || lockrun_late_init_end - lockrun_late_init_begin != 1) { return 1; }
  lockrun_late_init_begin[0]();
  return made != 0 ? 0 : 2;
}
