#include "engines/etcd/client.hpp"

#include "engines/etcd/failure.hpp"
#include "engines/etcd/requests.hpp"
#include "engines/net/words.hpp"
#include "engines/password.hpp"
#include "sys/clock.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

namespace lockrun::engines::etcd {
namespace {

using Kind = Trouble::Kind;
using Wrong = tl::unexpected<Trouble>;

constexpr std::int64_t k_longest_ttl = 1'000'000; // seconds, as lockrun has it
constexpr std::size_t k_most_useless = 1 << 20U;  // bytes of a watch without an event

// Numbers of gRPC's statuses (google.golang.org/grpc/codes).
enum GrpcCode { k_not_found = 5, k_already_exists = 6, k_permission_denied = 7, k_failed_precondition = 9 };
enum { k_invalid_argument = 3, k_unimplemented = 12, k_unauthenticated = 16 };

bool contains(const std::string& text, const char* part)
{
  return text.find(part) != std::string::npos;
}

// What the gateway's error means for us. Texts count where etcd uses one code for many things.
Trouble trouble_from(const Json& error)
{
  const bool is_nested = field(error, "error").is_object(); // in a stream
  const Json& facts = is_nested ? field(error, "error") : error;
  // The gateway of etcd 3.6 calls it `code` in a stream, too.
  const std::int64_t code = facts.contains("grpc_code") ? number(facts, "grpc_code") : number(facts, "code");
  std::string words = text(facts, "message");
  if (words.empty()) { words = text(facts, "error"); }
  words = net::first_line(words);
  if (contains(words, "invalid auth token") || contains(words, "revision of auth store is old")) {
    return {Kind::stale_token, words};
  }
  if (contains(words, "database space exceeded")) { return {Kind::refused, words}; } // until there is room again
  if (contains(words, "lease already exists")) { return {Kind::exists, words}; }
  if (contains(words, "requested lease not found")) { return {Kind::gone, words}; }
  if (contains(words, "user name is empty")) { return {Kind::stale_token, words}; } // we have shown none
  if (contains(words, "authentication failed")) { return {Kind::authentication, words}; }
  switch (code) {
  case k_permission_denied:
  case k_unauthenticated:
    return {Kind::authentication, words};
  case k_invalid_argument:
  case k_not_found:
  case k_already_exists:
  case k_failed_precondition:
    return {Kind::refused, words};
  case k_unimplemented:
    return {Kind::wrong_service, words};
  default:
    return {Kind::unavailable, words}; // no leader, a time-out, too many requests
  }
}

// A proxy's, or a server's that is overloaded: it may be over soon.
bool is_passing(unsigned status)
{
  return status == 408 || status == 429 || status >= 500;
}

Reply<Json> body_of(const net::HttpAnswer& answer)
{
  auto json = parse_json(answer.body);
  if (json && json->is_object()) {
    if (answer.status == 200 && !json->contains("error")) { return std::move(*json); }
    Trouble trouble = trouble_from(*json);
    if (trouble.text.empty()) { trouble.text = fmt::format("status {}", answer.status); }
    return Wrong(std::move(trouble));
  }
  if (contains(answer.body, "HTTP request to an HTTPS server")) { return Wrong(Trouble{Kind::tls, "it wants TLS"}); }
  if (contains(answer.body, "CommonName of client")) {
    return Wrong(Trouble{Kind::authentication,
      "with authentication on, its HTTP gateway refuses certificates with a common name; use one without, and a user"});
  }
  const std::string line = net::first_line(answer.body);
  const std::string words = fmt::format("status {}{}{}", answer.status, line.empty() ? "" : ": ", line);
  if (is_passing(answer.status)) { return Wrong(Trouble{Kind::unavailable, words}); }
  if (answer.status == 404) {
    return Wrong(Trouble{Kind::wrong_service, fmt::format("it has no HTTP gateway where etcd has it ({})", words)});
  }
  return Wrong(Trouble{Kind::wrong_service, fmt::format("it is not etcd's HTTP gateway ({})", words)});
}

// Whether another endpoint, or the same one later, may do better.
bool may_pass(Kind kind)
{
  return kind == Kind::unreachable || kind == Kind::silent || kind == Kind::unavailable || kind == Kind::tls ||
         kind == Kind::wrong_service || kind == Kind::other_cluster;
}

const Json& header_of(const Json& answer)
{
  const Json& result = field(answer, "result"); // in a stream
  return field(result.is_object() ? result : answer, "header");
}

std::string cluster_of(const Json& answer)
{
  return text(header_of(answer), "cluster_id");
}

std::string in_hexadecimal(const std::string& cluster)
{
  return fmt::format("{:x}", std::strtoull(cluster.c_str(), nullptr, 10));
}

// A token that is refused though it is new, or that we have no user for.
Trouble as_refused(Trouble trouble)
{
  if (trouble.kind == Kind::stale_token) { trouble.kind = Kind::authentication; }
  return trouble;
}

std::string environment(const char* name)
{
  const char* const value = sys::environment(name);
  return value != nullptr ? value : "";
}

} // namespace

std::int64_t term_of(const Json& answer)
{
  return count(header_of(answer), "raft_term");
}

std::int64_t revision_of(const Json& answer)
{
  return count(header_of(answer), "revision");
}

Watch::News Watch::take()
{
  News news;
  const auto piece = m_connection.take_piece();
  if (!piece) {
    news.is_over = true;
    return news;
  }
  news.is_over = piece->is_last;
  m_rest += piece->bytes;
  m_useless += piece->bytes.size();
  for (std::size_t end = m_rest.find('\n'); end != std::string::npos; end = m_rest.find('\n')) {
    const auto line = parse_json(std::string_view(m_rest).substr(0, end));
    m_rest.erase(0, end + 1);
    const Json& result = line ? field(*line, "result") : Json();
    if (!result.is_object() || field(result, "canceled") == true) {
      news.is_over = true;
      continue;
    }
    if (const Json& events = field(result, "events"); events.is_array() && !events.empty()) {
      news.has_events = true;
      m_useless = 0;
    }
  }
  if (m_useless > k_most_useless) { news.is_over = true; }
  return news;
}

Client::Client(const Attention& attention) : m_servers(attention), m_attention(attention)
{
  m_servers.on_delay([this](const Trouble& trouble) {
    m_attention.complain(failure_from({Kind::unreachable, trouble.text}).text);
  });
}

Result<void, Failure> Client::open(const Url& url)
{
  const auto unusable = [](std::string text) { return tl::unexpected(usage(std::move(text))); };
  const net::TlsFiles files{
    url.parameter("cacert").value_or(""), url.parameter("cert").value_or(""), url.parameter("key").value_or("")};
  const std::string tls = url.parameter("tls").value_or("");
  if (!tls.empty() && tls != "yes" && tls != "no") { return unusable(fmt::format("tls={}: it is yes or no", tls)); }
  const bool has_files = !files.authority.empty() || !files.certificate.empty() || !files.key.empty();
  if (tls == "no" && has_files) { return unusable("tls=no does not go with cacert=, cert= or key="); }
  if (files.certificate.empty() != files.key.empty()) { return unusable("cert= and key= go together"); }
  m_servers.open(url.endpoints, has_files || tls == "yes" ? std::optional(files) : std::nullopt);
  m_clusters.resize(m_servers.size());
  return take_account(url);
}

// Who we are: as the URL says, or as etcdctl has it in its environment, NAME or NAME:PASSWORD, and the password alone.
Result<void, Failure> Client::take_account(const Url& url)
{
  const std::string account = environment("ETCDCTL_USER");
  const std::string account_name = account.substr(0, account.find(':'));
  m_user = url.user.value_or(account_name);
  if (m_user.empty()) { return {}; }
  auto given = given_password(url, "LOCKRUN_ETCD_PASSWORD");
  if (!given) { return tl::unexpected(given.error()); }
  if (*given) {
    m_password = **std::move(given);
  } else if (m_user == account_name && account_name.size() < account.size()) {
    m_password = account.substr(account_name.size() + 1);
  } else {
    m_password = environment("ETCDCTL_PASSWORD");
  }
  return {};
}

Reply<Json> Client::json_from(const char* path, const net::HttpAnswer& answer)
{
  auto json = body_of(answer);
  if (!json) { return json; }
  if (m_cluster.empty()) {
    m_cluster = cluster_of(*json);
    m_clusters[m_servers.current()] = m_cluster;
  }
  // Times are computed with it, so that one that makes no sense goes no further.
  Json& facts = field(*json, "result").is_object() ? (*json)["result"] : *json;
  const std::int64_t ttl = number(facts, "TTL");
  if (std::string_view(path) == k_grant && ttl <= 0) {
    return Wrong(Trouble{Kind::refused, fmt::format("it grants a lease of {} seconds", ttl)});
  }
  if (facts.contains("TTL")) { facts["TTL"] = std::clamp<std::int64_t>(ttl, 0, k_longest_ttl); }
  return json;
}

std::string Client::cluster() const
{
  return in_hexadecimal(m_cluster);
}

Reply<void> Client::agree(Instant until)
{
  auto waited = m_servers.await_survey(until);
  if (!waited) { return waited; }
  return agree();
}

Reply<void> Client::agree()
{
  m_servers.look_at_background();
  for (const auto& [server, answer] : m_servers.take_survey()) {
    if (const auto json = body_of(answer)) { m_clusters[server] = cluster_of(*json); }
  }
  const auto is_foreign = [this](const std::string& one) { return !one.empty() && one != m_cluster; };
  if (m_cluster.empty() || std::none_of(m_clusters.begin(), m_clusters.end(), is_foreign)) { return {}; }
  std::string list;
  for (std::size_t i = 0; i < m_clusters.size(); ++i) {
    if (m_clusters[i].empty()) { continue; }
    const std::string endpoint = m_servers.endpoint(i).text();
    list += fmt::format("{}{} to {}", list.empty() ? "" : ", ", endpoint, in_hexadecimal(m_clusters[i]));
  }
  return Wrong(Trouble{Kind::other_cluster, "the endpoints belong to different clusters: " + list});
}

void Client::recall(std::int64_t late, const char* path, const Json& request)
{
  m_servers.recall(late, {path, write_json(request), m_token});
}

// What the servers have answered, good or bad, unless others may do better.
Reply<net::Exchange> Client::exchange(const std::vector<Request>& requests, const Limits& limits)
{
  if (m_servers.size() > 1 && !std::exchange(m_is_surveyed, true)) { m_servers.survey({k_status, "{}", {}}); }
  std::vector<net::HttpRequest> posts;
  posts.reserve(requests.size());
  for (const Request& request : requests) { posts.push_back({request.path, write_json(request.body), m_token}); }
  return m_servers.ask(posts, limits, [this](const std::vector<net::HttpAnswer>& answers) -> std::optional<Trouble> {
    for (const net::HttpAnswer& answer : answers) {
      const auto json = body_of(answer);
      if (!json && may_pass(json.error().kind)) { return json.error(); }
      const std::string cluster = json ? cluster_of(*json) : std::string();
      if (!cluster.empty() && !m_cluster.empty() && cluster != m_cluster) {
        return Trouble{Kind::other_cluster,
          fmt::format("it belongs to another cluster than the server that answered first ({}, not {})",
            in_hexadecimal(cluster), in_hexadecimal(m_cluster))};
      }
    }
    return std::nullopt;
  });
}

Reply<void> Client::authenticate(const Limits& limits)
{
  const Json request = {{"name", m_user}, {"password", m_password}};
  const auto exchanged = exchange({{k_authenticate, request}}, limits);
  if (!exchanged) { return Wrong(exchanged.error()); }
  const auto json = json_from(k_authenticate, exchanged->answers.front());
  // It may be switched on again while we are here.
  m_is_auth_off = !json && contains(json.error().text, "authentication is not enabled");
  if (m_is_auth_off) { return {}; }
  if (!json) { return Wrong(json.error()); }
  m_token = text(*json, "token");
  return {};
}

Reply<std::vector<Reply<Answer>>> Client::ask(const std::vector<Request>& requests, const Limits& limits)
{
  for (bool is_new_token = false;;) {
    if (m_token.empty() && !m_user.empty() && !m_is_auth_off) {
      is_new_token = true;
      const auto authenticated = authenticate(limits);
      if (!authenticated) { return Wrong(as_refused(authenticated.error())); }
    }
    const auto exchanged = exchange(requests, limits);
    if (!exchanged) { return Wrong(exchanged.error()); }
    std::vector<Reply<Answer>> replies;
    std::optional<Trouble> stale;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      auto json = json_from(requests[i].path, exchanged->answers[i]);
      if (json) {
        replies.emplace_back(Answer{std::move(*json), exchanged->asked, exchanged->first_asked});
        continue;
      }
      if (json.error().kind == Kind::stale_token) { stale = json.error(); }
      replies.emplace_back(Wrong(json.error()));
    }
    if (!stale) { return replies; }
    if (is_new_token || m_user.empty()) { return Wrong(as_refused(*stale)); }
    m_token.clear();
    m_is_auth_off = false;
  }
}

Reply<Answer> Client::call(const char* path, const Json& request, const Limits& limits)
{
  auto replies = ask({{path, request}}, limits);
  if (!replies) { return Wrong(replies.error()); }
  return std::move(replies->front());
}

std::optional<std::vector<Reply<Answer>>> Client::call_all(const std::vector<Request>& requests, const Limits& limits)
{
  Limits once = limits;
  once.rides_out = false; // the next call does
  auto replies = ask(requests, once);
  if (!replies) { return std::nullopt; }
  return std::move(*replies);
}

Reply<Watch> Client::watch(const std::vector<Json>& requests, const Limits& limits)
{
  std::string body; // a stream of them
  for (const Json& request : requests) { body += write_json(request); }
  Limits once = limits;
  once.until = std::min<Instant>(limits.until, sys::elapsed_now() + limits.one_try); // renewals do without
  auto connection = m_servers.connect(once);
  if (!connection) { return Wrong(connection.error()); }
  connection->open_stream({k_watch, body, m_token});
  for (;;) {
    const auto progress = connection->advance();
    if (!progress) { return Wrong(progress.error()); }
    if (*progress == net::Progress::done) { return Watch(std::move(*connection)); }
    switch (m_attention.wait(connection->descriptor(), connection->events(), once.until)) {
    case Attention::Woken::by_descriptor:
      break;
    case Attention::Woken::by_time:
      return Wrong(Trouble{Kind::silent, "no answer in time"});
    case Attention::Woken::by_lockrun:
      return Wrong(Trouble{Kind::interrupted, std::string()});
    }
  }
}

} // namespace lockrun::engines::etcd
