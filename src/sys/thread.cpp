#include "sys/thread.hpp"

#include <unistd.h>

namespace lockrun::sys {

Result<Thread> start_thread(void* (*body)(void*), void* argument, std::size_t stack_bytes)
{
  pthread_attr_t attributes;
  if (const int code = ::pthread_attr_init(&attributes); code != 0) {
    return tl::unexpected(SysError{"pthread_attr_init", code});
  }
  int code = ::pthread_attr_setstacksize(&attributes, stack_bytes);
  Thread thread;
  if (code == 0) { code = ::pthread_create(&thread.handle, &attributes, body, argument); }
  ::pthread_attr_destroy(&attributes);
  if (code != 0) { return tl::unexpected(SysError{"pthread_create", code}); }
  return thread;
}

Result<void> join(const Thread& thread)
{
  if (const int code = ::pthread_join(thread.handle, nullptr); code != 0) {
    return tl::unexpected(SysError{"pthread_join", code});
  }
  return {};
}

pid_t thread_id()
{
  return ::gettid();
}

} // namespace lockrun::sys
