#include "sys/thread.hpp"

#include "sys/clock.hpp"

#include <cerrno>
#include <ctime>

#include <malloc.h>
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

void share_heap()
{
  (void)::mallopt(M_ARENA_MAX, 1); // it cannot fail
}

Result<void> join(const Thread& thread)
{
  if (const int code = ::pthread_join(thread.handle, nullptr); code != 0) {
    return tl::unexpected(SysError{"pthread_join", code});
  }
  return {};
}

Result<Joined> join_within(const Thread& thread, std::chrono::nanoseconds patience)
{
  const auto end = steady_now() + patience;
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(end);
  const timespec limit{whole.count(), (end - whole).count()};
  const int code = ::pthread_clockjoin_np(thread.handle, nullptr, CLOCK_MONOTONIC, &limit);
  if (code == ETIMEDOUT) { return Joined::not_yet; }
  if (code != 0) { return tl::unexpected(SysError{"pthread_clockjoin_np", code}); }
  return Joined::yes;
}

pid_t thread_id()
{
  return ::gettid();
}

} // namespace lockrun::sys
