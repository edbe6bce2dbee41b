#pragma once

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <string>

namespace lockrun::cli {

// What a user can do about a failure; empty if nothing is certain. To be certain, the files are looked at again: what
// the kernel's errno leaves open (EACCES has half a dozen reasons) must not be guessed.

// The lock file could not be opened.
std::string hint_for_open(const Error& error, const LockRequest& request);

// The kernel refused the lock on an open file.
std::string hint_for_lock(const Error& error, const LockRequest& request);

// The same on a descriptor of the caller's.
std::string hint_for_descriptor(const Error& error, const LockRequest& request);

// The command could not be executed.
std::string hint_for_command(const Error& error);

// LOCK is a number and a file, as before a command, while the descriptor of that number is open.
std::string hint_for_number(const LockRequest& request);

} // namespace lockrun::cli
