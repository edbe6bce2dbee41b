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
constexpr const char* k_two_digits = "'%' needs two hexadecimal digits";

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

using Checked = tl::expected<void, std::string>;

std::string lower_case(std::string_view text)
{
  std::string lower(text);
  const auto to_lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  std::transform(lower.begin(), lower.end(), lower.begin(), to_lower);
  return lower;
}

// Where the parts are, before any of them is decoded.
struct Parts {
  std::string_view scheme;
  std::string_view authority; // accounts and hosts
  std::string_view path;
  std::string_view parameters;
  std::string_view fragment;
  bool has_late_at = false; // there is an '@' after the authority: perhaps the password is cut off
};

tl::expected<Parts, std::string> split(std::string_view text, UrlForm form)
{
  const bool has_fragment = form == UrlForm::fragment;
  const std::size_t scheme = text.find("://");
  if (scheme == std::string_view::npos) { return Wrong("it has no '://'"); }
  Parts parts;
  parts.scheme = text.substr(0, scheme);
  std::string_view rest = text.substr(scheme + 3);
  parts.authority = rest.substr(0, rest.find_first_of("/?#"));
  rest.remove_prefix(parts.authority.size());
  parts.has_late_at = rest.find('@') != std::string_view::npos;
  const bool is_cut_off = !rest.starts_with('/') && !(has_fragment && parts.authority.empty());
  if (parts.has_late_at && is_cut_off) { return Wrong(k_unencoded); }
  if (rest.starts_with('#') && !has_fragment) { return Wrong("it has a '#' behind the host"); }
  parts.fragment = rest;
  if (has_fragment) { rest = take_until(parts.fragment, '#'); }
  parts.path = take_until(rest, '?');
  (void)take_until(parts.path, '/');
  parts.parameters = rest;
  return parts;
}

// USER[:PASSWORD]
Checked read_account(std::string_view account, bool has_late_at, Url& url)
{
  const bool has_password = account.find(':') != std::string_view::npos;
  if (has_password && has_late_at) { return Wrong(k_unencoded); }
  url.user = decoded(take_until(account, ':'));
  if (has_password) { url.password = decoded(account); }
  if (!url.user || (has_password && !url.password)) { return Wrong(k_two_digits); }
  return {};
}

Checked read_authority(const Parts& parts, std::string_view default_port, UrlForm form, Url& url)
{
  std::string_view hosts = parts.authority;
  if (const std::size_t at = hosts.rfind('@'); at != std::string_view::npos) {
    auto account = read_account(hosts.substr(0, at), parts.has_late_at, url);
    if (!account) { return account; }
    hosts.remove_prefix(at + 1);
  }
  while (!hosts.empty() || (url.endpoints.empty() && form != UrlForm::fragment)) {
    auto endpoint = parse_endpoint(take_until(hosts, ','), default_port);
    if (!endpoint) { return Wrong(parts.has_late_at ? k_unencoded : endpoint.error()); }
    url.endpoints.push_back(*endpoint);
  }
  return {};
}

Checked read_name(const Parts& parts, UrlForm form, Url& url)
{
  const auto path = decoded(parts.path);
  const auto name = form == UrlForm::fragment ? decoded(parts.fragment) : path;
  if (!path || !name) { return Wrong(k_two_digits); }
  if (form == UrlForm::fragment) { url.path = *path; }
  url.name = *name;
  return {};
}

Checked read_parameters(std::string_view parameters, Url& url)
{
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
  return {};
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
  const auto parts = split(text, form);
  if (!parts) { return Wrong(parts.error()); }
  Url url;
  url.scheme = lower_case(parts->scheme);
  Checked checked = read_authority(*parts, default_port, form, url);
  if (checked) { checked = read_name(*parts, form, url); }
  if (checked) { checked = read_parameters(parts->parameters, url); }
  if (!checked) { return Wrong(checked.error()); }
  return url;
}

} // namespace lockrun::engines
