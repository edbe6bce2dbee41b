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

// Where a URL has the lock's name.
enum class UrlForm {
  path,     // SCHEME://HOSTS/NAME[?PARAMETERS]: the name is what comes after the first slash, with any '#'
  fragment, // SCHEME://[HOSTS][/PATH][?PARAMETERS]#NAME: the rest is the address of a server as its other users have it
};

// HOSTS are [USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]]… and PARAMETERS KEY=VALUE[&KEY=VALUE]…, with %XX decoded in all
// parts but hosts. May hold a password: only endpoints, path and name may appear in a message.
struct Url {
  std::string scheme; // in lower case
  std::optional<std::string> user;
  std::optional<std::string> password;
  std::vector<Endpoint> endpoints; // with a fragment there may be none: a socket of this machine
  std::string path;                // with a fragment only: what comes after the first slash
  std::string name;                // of the lock
  std::map<std::string, std::string> parameters;

  // The parameter's value; none if it was not given.
  std::optional<std::string> parameter(const std::string& key) const;
};

// The error says what is wrong, as a whole sentence without the URL.
tl::expected<Url, std::string> parse_url(
  std::string_view text, std::string_view default_port, UrlForm form = UrlForm::path);

} // namespace lockrun::engines
