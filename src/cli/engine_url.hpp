#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

namespace lockrun::cli {

// Overwrites every password in `text`, if that is an engine's URL, with asterisks in place: that of user:password@, and
// the values of parameters that are called so.
void hide_password(char* text);

// The same for a copy, fit for a message.
std::string without_password(std::string_view text);

// The same for every URL in words that are separated by NUL, also inside of a word: in a shell's command.
void hide_passwords(char* words, std::size_t size);

// What ?ttl= says; zero if it says nothing. The error is the end of a sentence.
tl::expected<std::chrono::nanoseconds, const char*> ttl_of(std::string_view url);

} // namespace lockrun::cli
