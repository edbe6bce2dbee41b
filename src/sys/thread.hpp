#pragma once

#include <lockrun/error.hpp>

#include <chrono>
#include <cstddef>

#include <pthread.h>
#include <sys/types.h>

namespace lockrun::sys {

// A running thread; join or detach it before it goes out of scope (pthread_create(3)).
struct Thread {
  pthread_t handle{};
};

// Starts `body(argument)` on a stack of `stack_bytes`, or of the least that this machine allows if that is more. The
// thread inherits the caller's signal mask. EAGAIN: no more threads.
Result<Thread> start_thread(void* (*body)(void*), void* argument, std::size_t stack_bytes);

// Nobody joins it any more: what it uses must outlive it (pthread_detach(3)).
void detach(const Thread& thread);

// Lets threads that start from now on allocate from the same heap as the first one (mallopt(3), M_ARENA_MAX). Otherwise
// glibc makes a heap for each thread that allocates at all: four system calls and a dozen pages.
void share_heap();

// Waits until it has returned (pthread_join(3)).
Result<void> join(const Thread& thread);

enum class Joined { yes, not_yet };

// The same for `patience` at most (pthread_clockjoin_np(3)). After `yes` the thread is gone.
Result<Joined> join_within(const Thread& thread, std::chrono::nanoseconds patience);

// The kernel's number of the calling thread (gettid(2)).
pid_t thread_id();

} // namespace lockrun::sys
