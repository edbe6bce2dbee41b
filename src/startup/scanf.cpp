// The C library's functions for local time bring scanf(3), 36 kB, to read what somebody wrote into TZ by hand. Nobody
// here wants the local time; the C++ library's locales only have it in their lists.
//
// In a program linked with -Wl,--wrap=__isoc99_sscanf (LOCKRUN_LATE_INIT) nothing can be read from such a text, and the
// local time that it describes is UTC.
extern "C" int __wrap___isoc99_sscanf(const char*, const char*, ...); // NOLINT(*-identifier*): the linker's name
extern "C" int __wrap___isoc99_sscanf(const char*, const char*, ...)  // NOLINT(*-identifier*, cert-dcl50-cpp)
{
  return 0;
}
