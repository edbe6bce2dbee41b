#include "sys/thread.hpp"

#include "sys/clock.hpp"

#include <algorithm>
#include <cerrno>
#include <ctime>

#include <malloc.h>
#include <unistd.h>

namespace lockrun::sys {
namespace {

timespec as_timespec(std::chrono::nanoseconds moment)
{
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(moment);
  return {whole.count(), (moment - whole).count()};
}

} // namespace

Result<Thread> start_thread(void* (*body)(void*), void* argument, std::size_t stack_bytes)
{
  pthread_attr_t attributes;
  if (const int code = ::pthread_attr_init(&attributes); code != 0) {
    return tl::unexpected(SysError{"pthread_attr_init", code});
  }
  const auto least = static_cast<std::size_t>(std::max(::sysconf(_SC_THREAD_STACK_MIN), 0L)); // 128 KiB on arm64
  int code = ::pthread_attr_setstacksize(&attributes, std::max(stack_bytes, least));
  Thread thread;
  if (code == 0) { code = ::pthread_create(&thread.handle, &attributes, body, argument); }
  ::pthread_attr_destroy(&attributes);
  if (code != 0) { return tl::unexpected(SysError{"pthread_create", code}); }
  return thread;
}

void detach(const Thread& thread)
{
  (void)::pthread_detach(thread.handle); // it is joinable, so that this cannot fail
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
#ifdef LOCKRUN_SANITIZE_THREAD // which knows only the join by the wall clock
  const timespec limit = as_timespec(wall_now() + patience);
  const int code = ::pthread_timedjoin_np(thread.handle, nullptr, &limit);
#else
  const timespec limit = as_timespec(steady_now() + patience);
  const int code = ::pthread_clockjoin_np(thread.handle, nullptr, CLOCK_MONOTONIC, &limit);
#endif
  if (code == ETIMEDOUT) { return Joined::not_yet; }
  if (code != 0) { return tl::unexpected(SysError{"pthread_clockjoin_np", code}); }
  return Joined::yes;
}

pid_t thread_id()
{
  return ::gettid();
}

} // namespace lockrun::sys
