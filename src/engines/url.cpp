#include "engines/url.hpp"

#include <algorithm>
#include <charconv>
#include <system_error>

#include <fmt/format.h>

namespace lockrun::engines {
namespace {

using Wrong = tl::unexpected<std::string>;

constexpr const char* k_unencoded =
  "in front of the host '/', '?' and '#' are written as %2F, %3F and %23, and behind a password '@' as %40";

// The part before `mark`, which is taken off `rest` with it; all of `rest` when there is none.
std::string_view take_until(std::string_view& rest, char mark)
{
  const std::string_view part = rest.substr(0, rest.find(mark));
  rest.remove_prefix(std::min(rest.size(), part.size() + 1));
  return part;
}

std::optional<std::string> decoded(std::string_view text)
{
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      bytes += text[i];
      continue;
    }
    unsigned value = 0;
    const std::string_view digits = text.substr(i + 1, 2);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() != 2 || error != std::errc() || end != digits.data() + 2) { return std::nullopt; }
    bytes += static_cast<char>(value);
    i += 2;
  }
  return bytes;
}

bool is_port(std::string_view text)
{
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 1 && value <= 65535;
}

tl::expected<Endpoint, std::string> parse_endpoint(std::string_view text, std::string_view default_port)
{
  Endpoint endpoint;
  std::string_view port;
  bool has_port = false;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) { return Wrong("the '[' of an address has no ']'"); }
    endpoint.host = text.substr(1, end - 1);
    text.remove_prefix(end + 1);
    has_port = text.starts_with(':');
    if (!has_port && !text.empty()) { return Wrong("there is something between an address's ']' and its port"); }
    if (has_port) { port = text.substr(1); }
  } else {
    const std::size_t colon = text.rfind(':');
    has_port = colon != std::string_view::npos;
    endpoint.host = text.substr(0, colon);
    if (has_port) { port = text.substr(colon + 1); }
    if (endpoint.host.find(':') != std::string::npos) { return Wrong("an IPv6 address needs brackets around it"); }
  }
  if (endpoint.host.empty()) { return Wrong("it names no host"); }
  // It may be the beginning of a password, and is not repeated.
  if (has_port && !is_port(port)) { return Wrong("a port is a number from 1 to 65535"); }
  endpoint.port = has_port ? port : default_port;
  return endpoint;
}

} // namespace

std::string Endpoint::text() const
{
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

std::optional<std::string> Url::parameter(const std::string& key) const
{
  const auto found = parameters.find(key);
  if (found == parameters.end()) { return std::nullopt; }
  return found->second;
}

tl::expected<Url, std::string> parse_url(std::string_view text, std::string_view default_port, UrlForm form)
{
  Url url;
  const bool has_fragment = form == UrlForm::fragment;
  const std::size_t scheme = text.find("://");
  if (scheme == std::string_view::npos) { return Wrong("it has no '://'"); }
  url.scheme = text.substr(0, scheme);
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  std::transform(url.scheme.begin(), url.scheme.end(), url.scheme.begin(), lower);
  std::string_view parameters = text.substr(scheme + 3);
  std::string_view authority = parameters.substr(0, parameters.find_first_of("/?#"));
  parameters.remove_prefix(authority.size());
  const bool has_late_at = parameters.find('@') != std::string_view::npos; // perhaps the password is cut off
  const bool is_cut_off = !parameters.starts_with('/') && !(has_fragment && authority.empty());
  if (has_late_at && is_cut_off) { return Wrong(k_unencoded); }
  if (parameters.starts_with('#') && !has_fragment) { return Wrong("it has a '#' behind the host"); }
  std::string_view fragment = parameters;
  if (has_fragment) { parameters = take_until(fragment, '#'); }
  std::string_view path = take_until(parameters, '?');
  (void)take_until(path, '/');
  const std::size_t at = authority.rfind('@');
  if (at != std::string_view::npos) {
    std::string_view password = authority.substr(0, at);
    const bool has_password = password.find(':') != std::string_view::npos;
    if (has_password && has_late_at) { return Wrong(k_unencoded); }
    url.user = decoded(take_until(password, ':'));
    if (has_password) { url.password = decoded(password); }
    if (!url.user || (has_password && !url.password)) { return Wrong("'%' needs two hexadecimal digits"); }
    authority.remove_prefix(at + 1);
  }
  while (!authority.empty() || (url.endpoints.empty() && !has_fragment)) {
    auto endpoint = parse_endpoint(take_until(authority, ','), default_port);
    if (!endpoint) { return Wrong(has_late_at ? k_unencoded : endpoint.error()); }
    url.endpoints.push_back(*endpoint);
  }

  const auto plain_path = decoded(path);
  const auto plain_name = has_fragment ? decoded(fragment) : plain_path;
  if (!plain_path || !plain_name) { return Wrong("'%' needs two hexadecimal digits"); }
  if (has_fragment) { url.path = *plain_path; }
  url.name = *plain_name;
  while (!parameters.empty()) {
    std::string_view value = take_until(parameters, '&');
    // It may be the end of a password with an '&' in it, and is not repeated.
    if (value.find('=') == std::string_view::npos) {
      return Wrong("a parameter is KEY=VALUE, and '&' is written as %26");
    }
    const std::string key(take_until(value, '='));
    const auto plain = decoded(value);
    if (!plain) { return Wrong(fmt::format("the value of '{}' has a '%' without two hexadecimal digits", key)); }
    if (!url.parameters.emplace(key, *plain).second) { return Wrong(fmt::format("it has '{}' twice", key)); }
  }
  return url;
}

} // namespace lockrun::engines
