#include "protocol/protocol.hpp"

#include <algorithm>
#include <charconv>
#include <system_error>

namespace lockrun::protocol {
namespace {

using Malformed = tl::unexpected<const char*>;

constexpr char k_digits[] = "0123456789ABCDEF";

bool must_be_encoded(char c)
{
  const auto byte = static_cast<unsigned char>(c);
  return byte <= ' ' || c == '%' || byte == 0x7f;
}

bool is_verb(std::string_view word)
{
  const auto fits = [](char c) { return (c >= 'A' && c <= 'Z') || c == '_'; };
  return !word.empty() && std::all_of(word.begin(), word.end(), fits);
}

bool is_key(std::string_view word)
{
  const auto fits = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; };
  return !word.empty() && std::all_of(word.begin(), word.end(), fits);
}

// The value of a hexadecimal digit, or -1.
int digit(char c)
{
  if (c >= '0' && c <= '9') { return c - '0'; }
  if (c >= 'A' && c <= 'F') { return c - 'A' + 10; }
  if (c >= 'a' && c <= 'f') { return c - 'a' + 10; }
  return -1;
}

std::optional<std::string> decoded(std::string_view value)
{
  std::string text;
  text.reserve(value.size());
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (value[i] != '%') {
      text += value[i];
      continue;
    }
    if (value.size() - i < 3) { return std::nullopt; }
    const int high = digit(value[i + 1]);
    const int low = digit(value[i + 2]);
    if (high < 0 || low < 0) { return std::nullopt; }
    text += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return text;
}

} // namespace

Message& Message::with(std::string_view key, std::string_view value) &
{
  m_fields.emplace_back(key, value);
  return *this;
}

Message&& Message::with(std::string_view key, std::string_view value) &&
{
  return std::move(with(key, value));
}

Message& Message::with(std::string_view key, std::int64_t value) &
{
  return with(key, std::string_view(std::to_string(value)));
}

Message&& Message::with(std::string_view key, std::int64_t value) &&
{
  return std::move(with(key, value));
}

std::optional<std::string_view> Message::text(std::string_view key) const
{
  for (const auto& [name, value] : m_fields) {
    if (name == key) { return value; }
  }
  return std::nullopt;
}

std::optional<std::int64_t> Message::number(std::string_view key) const
{
  const auto value = text(key);
  if (!value) { return std::nullopt; }
  std::int64_t number = 0;
  const char* const end = value->data() + value->size();
  const auto [stop, error] = std::from_chars(value->data(), end, number);
  if (error != std::errc() || stop != end) { return std::nullopt; }
  return number;
}

std::string format(const Message& message)
{
  std::string line = message.m_verb;
  for (const auto& [key, value] : message.m_fields) {
    constexpr std::size_t k_encoded = 3; // bytes of %XX
    if (line.size() + key.size() + 2 + k_encoded >= k_longest_line) { break; }
    line += ' ';
    line += key;
    line += '=';
    for (const char c : value) {
      if (line.size() + k_encoded >= k_longest_line) { break; }
      if (must_be_encoded(c)) {
        line += '%';
        line += k_digits[static_cast<unsigned char>(c) >> 4];
        line += k_digits[static_cast<unsigned char>(c) & 15];
      } else {
        line += c;
      }
    }
  }
  line += '\n';
  return line;
}

bool fits(const Message& message)
{
  std::size_t size = message.m_verb.size();
  for (const auto& [key, value] : message.m_fields) {
    const auto encoded = static_cast<std::size_t>(std::count_if(value.begin(), value.end(), must_be_encoded));
    size += key.size() + 2 + value.size() + 2 * encoded;
  }
  constexpr std::size_t k_encoded = 3; // as format() leaves room for one more
  return size + k_encoded < k_longest_line;
}

tl::expected<Message, const char*> parse(std::string_view line)
{
  Message message;
  message.m_verb = line.substr(0, line.find(' '));
  if (!is_verb(message.m_verb)) { return Malformed("it does not begin with a verb"); }
  line.remove_prefix(message.m_verb.size());
  while (!line.empty()) {
    line.remove_prefix(1);
    const std::string_view field = line.substr(0, line.find(' '));
    line.remove_prefix(field.size());
    if (field.empty()) { continue; } // a generous sender's second space
    const std::size_t equals = field.find('=');
    if (equals == std::string_view::npos || !is_key(field.substr(0, equals))) {
      return Malformed("it has a word that is no key=value");
    }
    const std::string_view key = field.substr(0, equals);
    if (message.text(key)) { return Malformed("it has a key twice"); }
    auto value = decoded(field.substr(equals + 1));
    if (!value) { return Malformed("it has a '%' without two hexadecimal digits"); }
    message.m_fields.emplace_back(key, std::move(*value));
  }
  return message;
}

LineReader::State LineReader::next(std::string& line)
{
  const std::size_t newline = m_buffer.find('\n', m_taken);
  const std::size_t length = (newline == std::string::npos ? m_buffer.size() : newline + 1) - m_taken;
  if (length > k_longest_line) { return State::too_long; }
  if (newline != std::string::npos) {
    line.assign(m_buffer, m_taken, newline - m_taken);
    m_taken = newline + 1;
    return State::line;
  }
  m_buffer.erase(0, m_taken);
  m_taken = 0;
  return m_buffer.size() >= k_longest_line ? State::too_long : State::incomplete;
}

} // namespace lockrun::protocol
