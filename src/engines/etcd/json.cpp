#include "engines/etcd/json.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <system_error>

namespace lockrun::engines::etcd {
namespace {

constexpr std::string_view k_alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::size_t k_most_values = 50'000; // the queue of 4,000 waiters has fewer
constexpr std::size_t k_deepest = 32;         // etcd needs eight levels

// What is parsed takes much more memory than its text: up to a hundred times as much.
bool is_modest(std::string_view text)
{
  std::size_t values = 0;
  std::size_t depth = 0;
  bool is_quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (is_quoted) {
      i += c == '\\' ? 1 : 0; // what is escaped ends nothing
      is_quoted = c != '"';
      continue;
    }
    is_quoted = c == '"';
    const bool is_opening = c == '[' || c == '{';
    const bool is_closing = c == ']' || c == '}';
    depth += is_opening ? 1 : 0;
    depth -= is_closing && depth > 0 ? 1 : 0;
    values += is_opening || c == ',' ? 1 : 0;
    if (values > k_most_values || depth > k_deepest) { return false; }
  }
  return true;
}

} // namespace

std::string encode_base64(std::string_view bytes)
{
  std::string encoded;
  encoded.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::string_view group = bytes.substr(i, 3);
    std::uint32_t bits = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      bits = bits << 8 | (j < group.size() ? static_cast<unsigned char>(group[j]) : 0U);
    }
    for (std::size_t j = 0; j < 4; ++j) { encoded += j <= group.size() ? k_alphabet[bits >> (18 - 6 * j) & 63] : '='; }
  }
  return encoded;
}

std::optional<std::string> decode_base64(std::string_view text)
{
  while (text.ends_with('=')) { text.remove_suffix(1); }
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const std::size_t value = k_alphabet.find(c);
    if (value == std::string_view::npos) { return std::nullopt; }
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes += static_cast<char>(bits >> count & 0xff);
    }
  }
  return bytes;
}

const Json& field(const Json& object, const char* key)
{
  static const Json nothing;
  const auto found = object.find(key); // end() for whatever is no object
  return found == object.end() ? nothing : *found;
}

std::int64_t number(const Json& object, const char* key)
{
  const Json& value = field(object, key);
  if (value.is_number_integer()) { return value.get<std::int64_t>(); }
  if (!value.is_string()) { return 0; }
  const auto& digits = value.get_ref<const std::string&>();
  std::int64_t result = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, result);
  return error == std::errc() && stop == end ? result : 0;
}

std::int64_t count(const Json& object, const char* key)
{
  constexpr std::int64_t k_largest = std::int64_t{1} << 62; // what is computed with it does not overflow
  return std::clamp<std::int64_t>(number(object, key), 0, k_largest);
}

std::string text(const Json& object, const char* key)
{
  const Json& value = field(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

std::string bytes(const Json& object, const char* key)
{
  return decode_base64(text(object, key)).value_or(std::string());
}

std::optional<Json> parse_json(std::string_view text)
{
  if (!is_modest(text)) { return std::nullopt; }
  Json value = Json::parse(text, nullptr, false);
  if (value.is_discarded()) { return std::nullopt; }
  return value;
}

std::string write_json(const Json& value)
{
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

} // namespace lockrun::engines::etcd
