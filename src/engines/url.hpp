#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

namespace lockrun::engines {

struct Endpoint {
  std::string host; // a name or an address, without brackets
  std::string port;
  std::string text() const; // host:port, as people write it
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

// SCHEME://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]]…/NAME[?KEY=VALUE[&KEY=VALUE]…], with %XX decoded in all parts
// but hosts. May hold a password: nothing of it belongs into a message but endpoints and name.
struct Url {
  std::string scheme;
  std::optional<std::string> user;
  std::optional<std::string> password;
  std::vector<Endpoint> endpoints;
  std::string name; // what is behind the first slash
  std::map<std::string, std::string> parameters;

  // The parameter's value; none if it was not given.
  std::optional<std::string> parameter(const std::string& key) const;
};

// The error says what is wrong, as a whole sentence without the URL.
tl::expected<Url, std::string> parse_url(std::string_view text, std::string_view default_port);

} // namespace lockrun::engines
