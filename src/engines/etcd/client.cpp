#include "engines/etcd/client.hpp"

#include "engines/password_file.hpp"
#include "sys/clock.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

namespace lockrun::engines::etcd {
namespace {

using Kind = Trouble::Kind;
using Wrong = tl::unexpected<Trouble>;

constexpr milliseconds k_pause{100}; // between two rounds

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
  const std::int64_t code = is_nested ? number(facts, "grpc_code") : number(facts, "code");
  std::string words = text(facts, "message");
  if (words.empty()) { words = text(facts, "error"); }
  if (contains(words, "invalid auth token") || contains(words, "revision of auth store is old")) {
    return {Kind::stale_token, words};
  }
  if (contains(words, "lease already exists")) { return {Kind::exists, words}; }
  if (contains(words, "requested lease not found")) { return {Kind::gone, words}; }
  if (contains(words, "user name is empty") || contains(words, "authentication failed")) {
    return {Kind::authentication, words};
  }
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
    return {Kind::no_gateway, words};
  default:
    return {Kind::unavailable, words}; // no leader, a time-out, too many requests
  }
}

Reply<Json> body_of(const HttpAnswer& answer)
{
  auto json = parse_json(answer.body);
  if (!json || !json->is_object()) {
    if (answer.status == 404) {
      return Wrong(Trouble{Kind::no_gateway, "it has no HTTP gateway (404 for what etcd answers there)"});
    }
    if (contains(answer.body, "HTTP request to an HTTPS server")) { return Wrong(Trouble{Kind::tls, "it wants TLS"}); }
    return Wrong(Trouble{Kind::no_gateway, fmt::format("it is not etcd's HTTP gateway (status {})", answer.status)});
  }
  if (answer.status != 200 || json->contains("error")) { return Wrong(trouble_from(*json)); }
  return std::move(*json);
}

// Whether another endpoint, or the same one later, may do better.
bool may_pass(Kind kind)
{
  return kind == Kind::unreachable || kind == Kind::silent || kind == Kind::unavailable || kind == Kind::tls ||
         kind == Kind::no_gateway;
}

std::string environment(const char* name)
{
  const char* const value = std::getenv(name); // NOLINT(concurrency-mt-unsafe): nobody changes it
  return value != nullptr ? value : "";
}

} // namespace

std::int64_t term_of(const Json& answer)
{
  const Json& result = field(answer, "result"); // in a stream
  return number(field(result.is_object() ? result : answer, "header"), "raft_term");
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
  for (std::size_t end = m_rest.find('\n'); end != std::string::npos; end = m_rest.find('\n')) {
    const auto line = parse_json(std::string_view(m_rest).substr(0, end));
    m_rest.erase(0, end + 1);
    const Json& result = line ? field(*line, "result") : Json();
    if (!result.is_object() || field(result, "canceled") == true) {
      news.is_over = true;
      continue;
    }
    for (const Json& event : field(result, "events")) {
      news.has_events = true;
      news.has_deletions = news.has_deletions || text(event, "type") == "DELETE";
    }
  }
  return news;
}

Outcome<void> Client::open(const Url& url)
{
  const auto unusable = [](std::string text) { return tl::unexpected(usage(std::move(text))); };
  for (const Endpoint& endpoint : url.endpoints) { m_servers.push_back({endpoint, {}}); }
  m_files = {
    url.parameter("cacert").value_or(""), url.parameter("cert").value_or(""), url.parameter("key").value_or("")};
  const std::string tls = url.parameter("tls").value_or("");
  if (!tls.empty() && tls != "yes" && tls != "no") { return unusable(fmt::format("tls={}: it is yes or no", tls)); }
  const bool has_files = !m_files.authority.empty() || !m_files.certificate.empty() || !m_files.key.empty();
  if (tls == "no" && has_files) { return unusable("tls=no does not go with cacert=, cert= or key="); }
  if (m_files.certificate.empty() != m_files.key.empty()) { return unusable("cert= and key= go together"); }
  m_uses_tls = has_files || tls == "yes";

  // As etcdctl has it in its environment: NAME or NAME:PASSWORD, and the password alone.
  const std::string account = environment("ETCDCTL_USER");
  const std::string account_name = account.substr(0, account.find(':'));
  m_user = url.user.value_or(account_name);
  if (m_user.empty()) { return {}; }
  if (url.password) {
    m_password = *url.password;
  } else if (const auto file = url.parameter("password-file")) {
    auto password = read_password_file(*file);
    if (!password) { return tl::unexpected(password.error()); }
    m_password = *std::move(password);
  } else if (const std::string ours = environment("LOCKRUN_ETCD_PASSWORD"); !ours.empty()) {
    m_password = ours;
  } else if (m_user == account_name && account_name.size() < account.size()) {
    m_password = account.substr(account_name.size() + 1);
  } else {
    m_password = environment("ETCDCTL_PASSWORD");
  }
  return {};
}

HttpRequest Client::request_to(const char* path, std::string body) const
{
  return {m_servers[m_current].endpoint.text(), path, std::move(body), m_token};
}

void Client::next_endpoint()
{
  m_connection.reset();
  m_servers[m_current].addresses.clear(); // perhaps they have changed
  m_current = (m_current + 1) % m_servers.size();
}

Reply<HttpConnection> Client::connect(Moment until)
{
  Server& server = m_servers[m_current];
  if (m_uses_tls && !m_context) {
    auto context = make_tls_context(m_files);
    if (!context) { return Wrong(context.error()); }
    m_context = std::move(*context);
  }
  if (server.addresses.empty()) {
    auto addresses = resolve(server.endpoint, m_attention, until);
    if (!addresses) { return Wrong(addresses.error()); }
    server.addresses = std::move(*addresses);
  }
  Trouble last;
  for (const sys::SocketAddress& address : server.addresses) {
    auto wire = Wire::connect(address, server.endpoint.host, m_context.get(), m_attention, until);
    if (wire) { return HttpConnection(std::move(*wire)); }
    last = wire.error();
    if (last.kind != Kind::unreachable) { break; }
  }
  return Wrong(last);
}

Reply<Json> Client::json_from(const HttpAnswer& answer)
{
  auto json = body_of(answer);
  if (json) { m_term = std::max(m_term, term_of(*json)); }
  return json;
}

Reply<void> Client::ensure_connection(Moment until)
{
  if (m_connection && m_connection->is_usable()) { return {}; }
  m_connection.reset();
  auto connection = connect(until);
  if (!connection) { return Wrong(connection.error()); }
  m_connection = std::move(*connection);
  return {};
}

Reply<HttpAnswer> Client::exchange(const char* path, const std::string& body, Moment until, Moment& asked)
{
  for (;;) {
    const bool is_used = m_connection && m_connection->is_usable();
    const auto connected = ensure_connection(until);
    if (!connected) { return Wrong(connected.error()); }
    asked = sys::elapsed_now();
    auto answer = m_connection->post(request_to(path, body), m_attention, until);
    if (answer) { return answer; }
    m_connection.reset();
    // The server may have closed a connection that was idle: that says nothing about it. All our requests can be
    // repeated.
    if (is_used && answer.error().kind == Kind::unreachable) { continue; }
    if (!m_uses_tls && answer.error().kind == Kind::unreachable) { answer.error().text += ", perhaps it wants TLS"; }
    return answer;
  }
}

Reply<void> Client::authenticate(Moment until)
{
  const Json request = {{"name", m_user}, {"password", m_password}};
  Moment asked{};
  const auto answer = exchange("/v3/auth/authenticate", write_json(request), until, asked);
  if (!answer) { return Wrong(answer.error()); }
  const auto json = json_from(*answer);
  if (json) {
    m_token = text(*json, "token");
    return {};
  }
  if (contains(json.error().text, "authentication is not enabled")) {
    m_user.clear();
    return {};
  }
  return Wrong(json.error());
}

Reply<Answer> Client::try_once(const char* path, const Json& request, Moment until)
{
  const std::string body = write_json(request);
  for (bool is_new_token = false;;) {
    if (m_token.empty() && !m_user.empty()) {
      is_new_token = true;
      const auto authenticated = authenticate(until);
      if (!authenticated) { return Wrong(authenticated.error()); }
    }
    Moment asked{};
    const auto answer = exchange(path, body, until, asked);
    if (!answer) { return Wrong(answer.error()); }
    auto json = json_from(*answer);
    if (json) { return Answer{std::move(*json), asked}; }
    if (json.error().kind != Kind::stale_token) { return Wrong(json.error()); }
    m_token.clear();
    if (is_new_token || m_user.empty()) { return Wrong(Trouble{Kind::authentication, json.error().text}); }
  }
}

Reply<Answer> Client::call(const char* path, const Json& request, const Limits& limits)
{
  auto said = std::exchange(m_said, {});
  said.resize(m_servers.size());
  for (;;) {
    for (std::size_t i = 0; i < m_servers.size(); ++i) {
      const Moment now = sys::elapsed_now();
      if (now >= limits.until) { break; }
      auto answer = try_once(path, request, std::min<Moment>(limits.until, now + limits.one_try));
      if (answer || !may_pass(answer.error().kind)) {
        if (!answer && answer.error().kind == Kind::interrupted) { m_connection.reset(); }
        return answer;
      }
      said[m_current] = answer.error();
      next_endpoint();
    }
    const bool has_hope = std::any_of(said.begin(), said.end(), [](const std::optional<Trouble>& one) {
      return one && (one->kind == Kind::silent || one->kind == Kind::unavailable);
    });
    const Moment next = sys::elapsed_now() + k_pause;
    if (!limits.rides_out || !has_hope || next >= limits.until) { break; }
    if (m_attention.pause(next) == Attention::Woken::by_lockrun) {
      return Wrong(Trouble{Kind::interrupted, std::string()});
    }
  }
  // All the same: that is what is wrong. Else it is just that nobody can be reached.
  Trouble all{Kind::unreachable, std::string()};
  std::optional<Kind> common;
  bool is_common = true;
  for (std::size_t i = 0; i < m_servers.size(); ++i) {
    if (!said[i]) { continue; }
    is_common = is_common && common.value_or(said[i]->kind) == said[i]->kind;
    common = said[i]->kind;
    all.text += fmt::format("{}{}: {}", all.text.empty() ? "" : "; ", m_servers[i].endpoint.text(), said[i]->text);
  }
  if (common && is_common) { all.kind = *common; }
  if (all.text.empty()) { all.text = "no answer in time"; }
  return Wrong(all);
}

Reply<std::pair<Answer, Answer>> Client::try_both(
  const char* first_path, const Json& first, const char* second_path, const Json& second, Moment until)
{
  if (m_token.empty() && !m_user.empty()) {
    const auto authenticated = authenticate(until);
    if (!authenticated) { return Wrong(authenticated.error()); }
  }
  const auto connected = ensure_connection(until);
  if (!connected) { return Wrong(connected.error()); }
  const Moment asked = sys::elapsed_now();
  const auto answers = m_connection->post_both(
    request_to(first_path, write_json(first)), request_to(second_path, write_json(second)), m_attention, until);
  if (!answers) {
    m_connection.reset();
    return Wrong(answers.error());
  }
  auto first_json = json_from(answers->first);
  if (!first_json) { return Wrong(first_json.error()); }
  auto second_json = json_from(answers->second);
  if (!second_json) { return Wrong(second_json.error()); }
  return std::pair(Answer{std::move(*first_json), asked}, Answer{std::move(*second_json), asked});
}

std::optional<std::pair<Answer, Answer>> Client::call_both(
  const char* first_path, const Json& first, const char* second_path, const Json& second, const Limits& limits)
{
  const Moment until = std::min<Moment>(limits.until, sys::elapsed_now() + limits.one_try);
  auto answers = try_both(first_path, first, second_path, second, until);
  if (answers) { return std::move(*answers); }
  const Kind kind = answers.error().kind;
  m_said.assign(m_servers.size(), std::nullopt);
  if (may_pass(kind)) { m_said[m_current] = answers.error(); }
  if (kind == Kind::silent || kind == Kind::unavailable) { next_endpoint(); } // this one is not to be waited for twice
  return std::nullopt;
}

Reply<Watch> Client::watch(const Json& request, const Limits& limits)
{
  const Moment until = std::min<Moment>(limits.until, sys::elapsed_now() + limits.one_try);
  auto connection = connect(until);
  if (!connection) { return Wrong(connection.error()); }
  const auto sent = connection->open_stream(request_to("/v3/watch", write_json(request)), m_attention, until);
  if (!sent) { return Wrong(sent.error()); }
  return Watch(std::move(*connection));
}

} // namespace lockrun::engines::etcd
