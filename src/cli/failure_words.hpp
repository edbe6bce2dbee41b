#pragma once

#include <lockrun/error.hpp>
#include <lockrun/request.hpp>

#include <string>
#include <vector>

namespace lockrun::cli {

// A failure in words: facts, one a line, without the "lockrun: " in front; and a hint where we truly know one.
struct FailureWords {
  std::vector<std::string> facts{};
  std::string hint{};
};

// `request` is what was asked for; with several locks the error says which one it is about.
FailureWords words_of(const Error& error, const LockRequest& request);

// Whether the lock is simply somebody else's, which is no failure of anything: notes and warnings are not for
// everybody.
bool is_conflict(Reason reason);

// "'/tmp/app.lock'", "descriptor 9".
std::string lock_name(const LockRequest& request);

// "ending the command and all that it started with SIGTERM".
std::string ending_words(int signal);

// What an engine or another host says, fit for a terminal and without the passwords of URLs in it.
std::string engine_words(const std::string& text);

} // namespace lockrun::cli
