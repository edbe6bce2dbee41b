#include "cli/engine_url.hpp"

#include "backends/engine.hpp"
#include "cli/duration.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>

namespace lockrun::cli {
namespace {

using Span = std::pair<std::size_t, std::size_t>; // first, and behind the last

void star(char* text, const Span& span)
{
  std::fill(text + span.first, text + span.second, '*');
}

// Calls `visit` with key and value of each parameter: where they stand.
template <class Visit>
void each_parameter(std::string_view url, Visit visit)
{
  std::size_t begin = url.find('?');
  while (begin != std::string_view::npos && begin < url.size()) {
    ++begin;
    const std::size_t end = std::min(url.find('&', begin), url.size());
    const std::size_t equals = std::min(url.find('=', begin), end);
    visit(url.substr(begin, equals - begin), Span(std::min(equals + 1, end), end));
    begin = end;
  }
}

bool is_secret(std::string_view key)
{
  return (key.find("pass") != key.npos || key.find("secret") != key.npos) && !key.ends_with("file");
}

// Whether this can be HOST[:PORT],... Otherwise it may be USER:PASSWORD, cut off.
bool are_hosts(std::string_view text)
{
  while (!text.empty()) {
    std::string_view host = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), host.size() + 1));
    if (host.starts_with('[')) { host.remove_prefix(std::min(host.find(']'), host.size())); }
    const std::size_t colon = host.find(':');
    if (colon == host.npos) { continue; }
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(host.data() + colon + 1, host.data() + host.size(), port);
    if (error != std::errc() || end != host.data() + host.size() || port == 0) { return false; }
  }
  return true;
}

// Also a password with a '/', '?' or '#' in it, which must be encoded, and which engines refuse otherwise.
void hide(char* text, std::string_view url)
{
  const std::size_t begin = url.find("://") + 3;
  const std::string_view authority = url.substr(begin, url.find_first_of("/?#", begin) - begin);
  const std::size_t hosts = authority.rfind('@') + 1; // 0 if there is no '@'
  const bool has_password = authority.substr(0, hosts).find(':') != authority.npos;
  const std::size_t colon = url.find(':', begin);
  const std::size_t at = url.rfind('@');
  const bool has_both = colon != url.npos && at != url.npos && colon < at;
  const bool has_name = url.substr(begin + authority.size()).starts_with('/');
  if (has_both && (has_password || !has_name || !are_hosts(authority.substr(hosts)))) { star(text, {colon + 1, at}); }
  each_parameter(url, [&](std::string_view key, const Span& value) {
    if (is_secret(key)) { star(text, value); }
  });
}

} // namespace

void hide_password(char* text)
{
  if (!backends::engine_name(text).empty()) { hide(text, text); }
}

void hide_passwords(char* words, std::size_t size)
{
  using namespace std::string_view_literals;
  const std::string_view text(words, size);
  for (std::size_t at = text.find("://"); at != text.npos; at = text.find("://", at + 1)) {
    const std::size_t word = text.rfind('\0', at) + 1; // 0 if there is none in front
    const bool is_word = backends::engine_name(text.substr(word)).size() == at - word;
    const std::size_t end = is_word ? text.find('\0', at) : text.find_first_of("\0 \t\n'\"`"sv, at);
    hide(words + at, text.substr(at, end - at));
  }
}

std::string without_password(std::string_view text)
{
  std::string shown(text);
  hide_password(shown.data());
  return shown;
}

tl::expected<std::chrono::nanoseconds, const char*> ttl_of(std::string_view url)
{
  constexpr std::chrono::seconds k_shortest{2};
  tl::expected<std::chrono::nanoseconds, const char*> ttl{};
  each_parameter(url, [&](std::string_view key, const Span& value) {
    if (key != "ttl") { return; }
    const auto duration = parse_duration(url.substr(value.first, value.second - value.first));
    if (!duration) {
      ttl = tl::unexpected(duration.error());
    } else if (*duration < k_shortest) {
      ttl = tl::unexpected<const char*>("it is shorter than 2s, which leaves no time to renew it and to end a command");
    } else {
      ttl = *duration;
    }
  });
  return ttl;
}

} // namespace lockrun::cli
