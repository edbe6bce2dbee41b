#include "options/engine_url.hpp"

#include "remote/engine_messages.hpp"
#include "remote/engine_program.hpp"
#include "text/duration.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <iterator>
#include <optional>

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

// Which values are hidden.
enum class Hide {
  unknown, // all but those of parameters that are known to hold nothing secret: in the URL of a lock
  secrets, // of parameters that are called so: in URLs that mean something to other programs
};

bool is_secret(std::string_view key)
{
  constexpr std::string_view k_words[] = {"pass", "pwd", "secret", "token"};
  const auto is_in_it = [key](std::string_view word) { return key.find(word) != key.npos; };
  return std::any_of(std::begin(k_words), std::end(k_words), is_in_it) && !key.ends_with("file");
}

bool is_open(std::string_view key)
{
  constexpr std::string_view k_open[] = {"ttl", "publish", "tls", "cacert", "cert", "key", "password-file"};
  return std::find(std::begin(k_open), std::end(k_open), key) != std::end(k_open);
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

// Also a password with a '/', '?' or '#' in it, which must be encoded, and one without an '@', which may have any of
// these: engines refuse both.
void hide(char* text, std::string_view url, Hide what)
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
  if (authority.find('@') == authority.npos && !has_both && !are_hosts(authority)) {
    star(text, {colon + 1, url.size()});
  }
  each_parameter(url, [&](std::string_view key, const Span& value) {
    const bool is_hidden = what == Hide::secrets ? is_secret(key) : !is_open(key);
    if (!is_hidden) { return; }
    // What has no '=' may be the end of a value with an '&' in it.
    const bool has_value = url[value.first - 1] == '=';
    star(text, has_value || is_secret(key) ? value : Span(value.first - key.size(), value.second));
  });
}

// What a URL with "://" at `at` ends with inside a word: the quote that stands in front of it, or whatever else may.
std::string_view ends_of_url(std::string_view text, std::size_t at)
{
  using namespace std::string_view_literals;
  constexpr std::string_view k_scheme = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.";
  const std::size_t before = text.substr(0, at).find_last_not_of(k_scheme);
  if (before != text.npos && text[before] == '\'') { return "\0'"sv; }
  if (before != text.npos && text[before] == '"') { return "\0\""sv; }
  return "\0 \t\n'\"`"sv;
}

// What web browsers and the like take: commands are full of them.
bool is_of_the_web(std::string_view scheme)
{
  return scheme.starts_with("http") || scheme == "ftp" || scheme == "ssh" || scheme == "git";
}

// The parameter's value; the last one if there are several, which engines refuse.
std::optional<std::string_view> value_of(std::string_view wanted, std::string_view url)
{
  std::optional<std::string_view> found;
  each_parameter(url, [&](std::string_view key, const Span& value) {
    const std::string_view text = url.substr(value.first, value.second - value.first);
    if (key == wanted) { found = text.substr(0, text.find('#')); } // what follows may be the lock's name
  });
  return found;
}

} // namespace

void hide_password(char* text)
{
  if (!remote::engine_name(text).empty()) { hide(text, text, Hide::unknown); }
}

void hide_passwords(char* words, std::size_t size)
{
  const std::string_view text(words, size);
  for (std::size_t at = text.find("://"); at != text.npos; at = text.find("://", at + 1)) {
    const std::size_t word = text.rfind('\0', at) + 1; // 0 if there is none in front
    const std::string scheme = remote::engine_name(text.substr(word));
    const bool is_word = scheme.size() == at - word;
    const std::size_t end = is_word ? text.find('\0', at) : text.find_first_of(ends_of_url(text, at), at);
    const bool may_be_a_lock = is_word && !is_of_the_web(scheme);
    hide(words + at, text.substr(at, end - at), may_be_a_lock ? Hide::unknown : Hide::secrets);
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
  using Wrong = tl::unexpected<const char*>;
  constexpr std::chrono::seconds k_shortest{2};
  const auto text = value_of("ttl", url);
  if (!text) { return std::chrono::nanoseconds(0); }
  const auto duration = text::parse_duration(*text);
  if (!duration) { return Wrong(duration.error()); }
  if (*duration < k_shortest) {
    return Wrong("it is shorter than 2s, which leaves no time to renew it and to end a command");
  }
  if (*duration > remote::k_longest_ttl) { return Wrong("it is longer than 366d, which no engine is asked for"); }
  return *duration;
}

tl::expected<Published, const char*> published_by(std::string_view url)
{
  const auto text = value_of("publish", url).value_or("command");
  if (text == "command") { return Published::command; }
  if (text == "name") { return Published::name; }
  return tl::unexpected<const char*>("must be 'command' or 'name'");
}

} // namespace lockrun::cli
