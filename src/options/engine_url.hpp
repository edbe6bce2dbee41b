#pragma once

#include "options/parse.hpp"

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

namespace lockrun::cli {

// Overwrites what is or may be a password in `text`, if that is an engine's URL, with asterisks in place: that of
// user:password@, and the values of all parameters but those that are known to hold none.
void hide_password(char* text);

// The same for a copy, fit for a message.
std::string without_password(std::string_view text);

// The same for every URL in words that are separated by NUL, even inside a word, as in a shell's command. Parameters
// are hidden only by their names there, and in the URLs of the web.
void hide_passwords(char* words, std::size_t size);

// What ?ttl= says; zero if it says nothing. The error is the end of a sentence.
tl::expected<std::chrono::nanoseconds, const char*> ttl_of(std::string_view url);

// What ?publish= says. The error is what is required of it.
tl::expected<Published, const char*> published_by(std::string_view url);

} // namespace lockrun::cli
