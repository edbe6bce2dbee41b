#pragma once

#include "sys/descriptor.hpp"

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <optional>

namespace lockrun::kernel {

inline constexpr int k_most_slots = 256;

// Slot i of a lock file is an exclusive ofd lock on its byte: it belongs to the open file description `fd`, shared by
// all who inherit it, gone when the last of them has closed it. Each caller looks at the slots below its own `count`.
Range byte_of_slot(int slot);

// The lowest free slot, which is ours now; none when all are taken. Does not block.
Result<std::optional<int>> try_slot(const sys::Descriptor& fd, int count);

// The same, but waits until a slot is free: the kernel wakes us, in one thread per slot. None after an interruption of
// the calling thread by sys::wake_signal(). Only one process at a time should wait here, the first one in the queue.
// Where there can be no such threads it looks again a little later instead, and returns none also after that.
Result<std::optional<int>> wait_slot(const sys::Descriptor& fd, int count);

Result<void> free_slot(const sys::Descriptor& fd, int slot);

} // namespace lockrun::kernel
