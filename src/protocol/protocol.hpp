#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tl/expected.hpp>

// What lockrun and an engine program say to each other, one line a message: lockrun-engine(7). Both ends use this file;
// it knows no descriptors and no clock.
namespace lockrun::protocol {

inline constexpr int k_version = 1;

// With its newline. Neither end has to read a longer one.
inline constexpr std::size_t k_longest_line = 64 * 1024;

// The longest time to live, in milliseconds: one year.
inline constexpr std::int64_t k_longest_ttl = 366LL * 24 * 3600 * 1000;

// VERB key=value key=value…
class Message {
public:
  Message() = default;
  explicit Message(std::string_view verb) : m_verb(verb) {}

  // Builder: Message("HELD").with("token", 7).with("key", key). Verb and keys are the program's own words.
  Message& with(std::string_view key, std::string_view value) &;
  Message&& with(std::string_view key, std::string_view value) &&;
  Message& with(std::string_view key, std::int64_t value) &;
  Message&& with(std::string_view key, std::int64_t value) &&;

  const std::string& verb() const noexcept { return m_verb; }
  bool is(std::string_view verb) const noexcept { return m_verb == verb; }

  // The value behind `key`; none if it is not there.
  std::optional<std::string_view> text(std::string_view key) const;

  // The value as a whole number; none if it is not there or is none.
  std::optional<std::int64_t> number(std::string_view key) const;

  friend bool operator==(const Message&, const Message&) = default;

private:
  friend std::string format(const Message& message);
  friend bool fits(const Message& message);
  friend tl::expected<Message, const char*> parse(std::string_view line);

  std::string m_verb;
  std::vector<std::pair<std::string, std::string>> m_fields;
};

// The message as a line, with its newline. Bytes up to the space, '%' and DEL in values become %XX; everything else,
// UTF-8 included, stays. A value that makes the line longer than k_longest_line is cut off: better half a command line
// than no message.
std::string format(const Message& message);

// Whether format() cuts nothing off, for sure.
bool fits(const Message& message);

// A line without its newline. The error says what is wrong with it, as the end of a sentence. Unknown verbs and keys
// are the caller's business.
tl::expected<Message, const char*> parse(std::string_view line);

// Makes lines of what arrives in pieces.
class LineReader {
public:
  // What was read from the other end.
  void add(std::string_view bytes) { m_buffer.append(bytes); }

  enum class State { line, incomplete, too_long };
  // Takes the next whole line, without its newline, out into `line`. `too_long` stays for ever: there is no telling
  // where the next line begins.
  State next(std::string& line);

  // Whether the end of the input now would cut a line off.
  bool has_rest() const noexcept { return m_taken < m_buffer.size(); }

private:
  std::string m_buffer;
  std::size_t m_taken = 0;
};

} // namespace lockrun::protocol
