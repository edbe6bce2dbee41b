#include "engines/etcd/lock.hpp"

#include "sys/clock.hpp"

#include <algorithm>
#include <cstring>
#include <random>
#include <sysexits.h>
#include <utility>

#include <fmt/format.h>

namespace lockrun::engines::etcd {
namespace {

using Kind = Trouble::Kind;
using Failed = tl::unexpected<Failure>;

constexpr milliseconds k_default_ttl{30'000};
constexpr milliseconds k_shortest_ttl{2'000};
constexpr milliseconds k_try{2'000}; // an endpoint's answer while nothing presses
// For giving back what we have. lockrun gives us a second, in which each of three endpoints should be asked.
constexpr milliseconds k_farewell{5'000};
constexpr milliseconds k_farewell_try{300};
constexpr milliseconds k_watch_pause{200};
constexpr const char* k_range = "/v3/kv/range";
constexpr const char* k_grant = "/v3/lease/grant";
constexpr const char* k_keepalive = "/v3/lease/keepalive";
constexpr int k_elections = 3; // during one renewal

constexpr std::string_view k_parameters[] = {"ttl", "cacert", "cert", "key", "tls", "password-file"};

Failure failure_from(const Trouble& trouble)
{
  switch (trouble.kind) {
  case Kind::interrupted:
    return {EX_TEMPFAIL, k_interrupted, {}};
  case Kind::tls:
    return {EX_UNAVAILABLE, "tls", fmt::format("no secure connection to etcd: {}", trouble.text)};
  case Kind::no_gateway:
    return {EX_UNAVAILABLE, "refused", fmt::format("cannot talk to etcd: {}", trouble.text), {},
      "lockrun uses etcd's HTTP gateway, which the server's --enable-grpc-gateway=false switches off"};
  case Kind::authentication:
  case Kind::stale_token:
    return {EX_NOPERM, "authentication", fmt::format("etcd does not let us: {}", trouble.text)};
  case Kind::gone:
  case Kind::exists:
  case Kind::refused:
    return {EX_UNAVAILABLE, "refused", fmt::format("etcd refuses: {}", trouble.text)};
  default:
    return {EX_UNAVAILABLE, "unreachable", fmt::format("cannot reach etcd: {}", trouble.text)};
  }
}

Failed failed(const Trouble& trouble)
{
  return Failed(failure_from(trouble));
}

// The first key behind all that begin with `prefix`.
std::string end_of(std::string prefix)
{
  ++prefix.back(); // it is a slash
  return prefix;
}

std::int64_t any_lease_id()
{
  std::random_device device;
  return static_cast<std::int64_t>((std::uint64_t{device()} << 32 | device()) >> 1) | 1;
}

} // namespace

Outcome<void> EtcdLock::open(const Url& url)
{
  for (const auto& parameter : url.parameters) {
    if (std::find(std::begin(k_parameters), std::end(k_parameters), parameter.first) == std::end(k_parameters)) {
      return Failed(usage(fmt::format("etcd has no parameter '{}'", parameter.first),
        "there are ttl=, tls=, cacert=, cert=, key= and password-file="));
    }
  }
  if (url.name.empty()) { return Failed(usage("the URL names no lock", "etcd://HOST:2379/NAME")); }
  const auto opened = m_client.open(url);
  if (!opened) { return Failed(usage(opened.error())); }
  m_prefix = url.name + '/';
  return {};
}

Limits EtcdLock::brief() const
{
  const milliseconds ttl = m_granted.lease.ttl;
  const milliseconds one_try = ttl > milliseconds(0) ? try_limit(ttl) : k_try;
  return {sys::elapsed_now() + one_try * static_cast<int>(m_client.endpoints()), one_try};
}

EtcdLock::View EtcdLock::view_of(const Json& range_response, const Json& answer) const
{
  const Json& header = field(answer, "header");
  View view{members_of(range_response, m_prefix), number(header, "revision"), term_of(answer), {}};
  for (std::size_t i = 0; i < view.queue.size(); ++i) {
    if (view.queue[i].key == m_key) { view.ours = i; }
  }
  return view;
}

Json EtcdLock::queue_request(Scope scope) const
{
  Json request = {{"key", encode_base64(scope == Scope::us ? m_key : m_prefix)}};
  if (scope != Scope::us) { request["range_end"] = encode_base64(end_of(m_prefix)); }
  if (scope == Scope::up_to_us) { request["max_create_revision"] = std::to_string(m_created); }
  return request;
}

Outcome<EtcdLock::View> EtcdLock::queue(Scope scope, const Limits& limits)
{
  const auto answer = m_client.call(k_range, queue_request(scope), limits);
  if (!answer) { return failed(answer.error()); }
  return view_of(answer->body, answer->body);
}

Outcome<std::vector<Party>> EtcdLock::status()
{
  const auto view = queue(Scope::everybody, brief());
  if (!view) { return Failed(view.error()); }
  std::vector<Party> parties;
  for (std::size_t i = 0; i < view->queue.size(); ++i) { parties.push_back(party_of(view->queue, i)); }
  std::stable_partition(parties.begin(), parties.end(), [](const Party& party) { return !party.waits; });
  return parties;
}

// Asks for a lease, with a glance before it where only that tells the term.
Reply<Answer> EtcdLock::grant_behind_glance(const Json& request, const Limits& limits, std::int64_t& term)
{
  const Json glance = {{"key", encode_base64(m_prefix)}, {"serializable", true}, {"count_only", true}};
  if (m_client.term() == 0) {
    if (auto both = m_client.call_both(k_range, glance, k_grant, request, limits)) {
      term = term_of(both->first.body);
      return std::move(both->second);
    }
    const auto seen = m_client.call(k_range, glance, limits);
    if (!seen) { return tl::unexpected(seen.error()); }
  }
  term = m_client.term();
  return m_client.call(k_grant, request, limits);
}

Outcome<EtcdLock::Granted> EtcdLock::ask_for_lease(milliseconds ttl, const Limits& limits)
{
  Granted granted;
  granted.id = m_leases.emplace_back(any_lease_id());
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(ttl);
  const Json request = {{"TTL", std::to_string(seconds.count())}, {"ID", std::to_string(granted.id)}};
  const Moment began = sys::elapsed_now();
  const auto answer = grant_behind_glance(request, limits, granted.term);
  if (answer) {
    granted.lease = lease_from(answer->asked, std::chrono::seconds(number(answer->body, "TTL")));
  } else if (answer.error().kind == Kind::exists) { // by an earlier try, whose answer got lost
    granted.lease = lease_from(began, seconds);
  } else {
    return failed(answer.error());
  }
  return granted;
}

Json EtcdLock::put_request(std::int64_t lease) const
{
  return {{"request_put",
    {{"key", encode_base64(m_key)}, {"value", encode_base64(write_note(m_note))}, {"lease", std::to_string(lease)}}}};
}

// Makes our key unless it is there already, so that it can be repeated; with `unchanged_since` only if nobody has
// joined after that revision. The view is the queue afterwards; our key is not in it if it could not be made.
Outcome<EtcdLock::View> EtcdLock::create_key(std::optional<std::int64_t> unchanged_since, const Limits& limits)
{
  const std::string prefix = encode_base64(m_prefix);
  const std::string end = encode_base64(end_of(m_prefix));
  const Json everybody = {{"request_range", {{"key", prefix}, {"range_end", end}}}};
  Json condition = {{"key", encode_base64(m_key)}, {"target", "CREATE"}, {"result", "EQUAL"}, {"create_revision", "0"}};
  if (unchanged_since) {
    condition = {{"key", prefix}, {"range_end", end}, {"target", "MOD"}, {"result", "LESS"},
      {"mod_revision", std::to_string(*unchanged_since + 1)}};
  }
  const Json request = {{"compare", Json::array({condition})},
    {"success", Json::array({put_request(m_granted.id), everybody})}, {"failure", Json::array({everybody})}};
  const auto answer = m_client.call("/v3/kv/txn", request, limits);
  if (!answer && answer.error().kind == Kind::gone) { // it took us longer than the lease lives
    m_granted = {};
    return View{};
  }
  if (!answer) { return failed(answer.error()); }
  const Json& responses = field(answer->body, "responses");
  const Json& last = responses.is_array() && !responses.empty() ? responses.back() : responses;
  View view = view_of(field(last, "response_range"), answer->body);
  if (view.ours) { adopt(view); }
  return view;
}

// What an earlier try, whose answer got lost, has made is as good as what we would make now.
void EtcdLock::adopt(const View& view)
{
  m_created = view.queue[*view.ours].created;
  m_note.slot = view.queue[*view.ours].note.slot;
}

Outcome<Standing> EtcdLock::join(const Demand& demand, Moment until)
{
  const milliseconds ttl = demand.ttl > milliseconds(0) ? demand.ttl : k_default_ttl;
  if (ttl < k_shortest_ttl) {
    return Failed(usage(fmt::format("ttl={}ms leaves no time to renew the lease", ttl.count()), "it is 2s at least"));
  }
  m_note = {demand.mode, demand.slots, {}, demand.max_waiters.has_value(), demand.owner};
  if (sys::elapsed_now() >= m_granted.lease.deadline) { m_granted = {}; } // that of a place that was lost
  const Limits limits{until, k_try, true};
  const bool looks_first = demand.wait == Wait::never || demand.max_waiters || demand.slots > 0;
  for (;;) {
    std::optional<std::int64_t> unchanged_since;
    if (looks_first) {
      const auto view = queue(Scope::everybody, limits);
      if (!view) { return Failed(view.error()); }
      if (view->ours) { // we were interrupted just after it was made
        adopt(*view);
        const auto standing = standing_in(*view);
        if (!standing) { return Failed(standing.error()); }
        if (*standing) { return **standing; }
      }
      m_note.slot.reset();
      const Place place = place_of(view->queue, view->queue.size(), m_note);
      const bool is_free = place.is_held || place.slot_to_claim;
      if (!is_free) {
        std::string holder = place.holder ? party_of(view->queue, *place.holder).text : std::string();
        if (demand.wait == Wait::never) {
          return Failed(Failure{EX_TEMPFAIL, "busy", "it is held", std::move(holder)});
        }
        if (demand.max_waiters && place.counted_waiters >= *demand.max_waiters) {
          return Failed(Failure{
            EX_TEMPFAIL, "too_many_waiters", fmt::format("{} wait already", place.counted_waiters), std::move(holder)});
        }
      }
      m_note.slot = place.slot_to_claim;
      if (demand.wait == Wait::never || demand.max_waiters || m_note.slot) { unchanged_since = view->revision; }
    }
    if (m_granted.id == 0) {
      const auto granted = ask_for_lease(ttl, limits);
      if (!granted) { return Failed(granted.error()); }
      m_granted = *granted;
      m_key = fmt::format("{}{:x}", m_prefix, m_granted.id);
    }
    const auto view = create_key(unchanged_since, limits);
    if (!view) { return Failed(view.error()); }
    if (!view->ours) { continue; } // somebody came in between
    const auto standing = standing_in(*view);
    if (!standing) { return Failed(standing.error()); }
    if (*standing) { return **standing; }
  }
}

// None: our key is gone.
Outcome<std::optional<Standing>> EtcdLock::standing_in(const View& view)
{
  if (!view.ours || view.queue[*view.ours].created != m_created) { return std::nullopt; }
  const Place place = place_of(view.queue, *view.ours, m_note);
  Standing standing{place.is_held, place.position, {}};
  if (place.slot_to_claim) {
    m_note.slot = place.slot_to_claim;
    const auto rewritten = rewrite(m_granted.id);
    if (!rewritten) {
      m_note.slot.reset();
      return Failed(rewritten.error());
    }
    if (*rewritten == Found::lost) { return std::nullopt; }
    standing.is_held = true;
  }
  if (standing.is_held) {
    m_is_held = true;
    m_watch.reset();
    return standing;
  }
  m_has_waited = true;
  if (place.holder) { standing.holder = party_of(view.queue, *place.holder); }
  const auto watched = watch(place.obstacle ? view.queue[*place.obstacle].key : m_prefix, view.revision + 1);
  if (!watched) { return Failed(watched.error()); }
  return standing;
}

// Writes our key once more if it is still ours, on this lease.
Outcome<EtcdLock::Found> EtcdLock::rewrite(std::int64_t lease)
{
  const Json condition = {{"key", encode_base64(m_key)}, {"target", "CREATE"}, {"result", "EQUAL"},
    {"create_revision", std::to_string(m_created)}};
  const Json request = {{"compare", Json::array({condition})}, {"success", Json::array({put_request(lease)})}};
  const auto answer = m_client.call("/v3/kv/txn", request, brief());
  if (!answer && answer.error().kind == Kind::gone) { return Found::lost; }
  if (!answer) { return failed(answer.error()); }
  return field(answer->body, "succeeded") == true ? Found::ours : Found::lost;
}

// Our key moves to a lease that no leader before the present one has ever known. If that fails half-way the key may be
// on either; the next renewal tries again, with one more.
Outcome<EtcdLock::Found> EtcdLock::change_lease()
{
  const auto granted = ask_for_lease(m_granted.lease.ttl, brief());
  if (!granted) { return Failed(granted.error()); }
  const auto moved = rewrite(granted->id);
  if (!moved) { return Failed(moved.error()); }
  if (*moved == Found::lost) { return Found::lost; }
  m_granted = *granted;
  const std::vector<std::int64_t> leases = m_leases;
  for (const std::int64_t lease : leases) {
    if (lease != m_granted.id) { (void)revoke(lease, brief()); } // then it is left for the end
  }
  return Found::ours;
}

Outcome<void> EtcdLock::watch(const std::string& key, std::int64_t since)
{
  if (m_watch && m_watched == key && m_watched_at == m_client.endpoint()) { return {}; }
  m_watch.reset();
  Json request = {{"key", encode_base64(key)}, {"start_revision", std::to_string(since)}};
  if (key == m_prefix) { request["range_end"] = encode_base64(end_of(key)); }
  if (m_note.slots == 0 || key == m_key) { request["filters"] = Json::array({"NOPUT"}); } // notes matter to slots only
  auto opened = m_client.watch({{"create_request", request}}, brief());
  if (!opened && opened.error().kind == Kind::interrupted) { return failed(opened.error()); }
  if (!opened) { return {}; } // the next renewal finds another endpoint, or says what is wrong
  m_watch = std::move(*opened);
  m_watched = key;
  m_watched_at = m_client.endpoint();
  m_watched_since = sys::elapsed_now();
  return {};
}

bool EtcdLock::is_stirred()
{
  if (!m_watch) { return false; }
  const Watch::News news = m_watch->take();
  if (news.is_over) {
    m_watch.reset();
    // A server that ends each watch at once is not to be asked without end.
    const Moment earliest = m_watched_since + k_watch_pause;
    if (sys::elapsed_now() < earliest) { (void)m_attention.pause(earliest); }
  }
  return news.is_over || news.has_events;
}

// Leaders that are none any more make two kinds of trouble. One that was cut off or frozen may renew a lease that its
// successor has ended already: so behind the renewal there is a read through the quorum, and both must be answered in
// the same term, which was then nobody else's in between. And one that was frozen may, thawed, end a lease that its
// successor has renewed (etcd's issue 15247): so a lease is renewed in the term in which it was granted, and in the
// next one replaced.
Outcome<std::optional<Standing>> EtcdLock::renew()
{
  const Json renewal = {{"ID", std::to_string(m_granted.id)}};
  const Scope scope = m_is_held ? Scope::us : Scope::up_to_us;
  for (int i = 0; i < k_elections; ++i) {
    Reply<Answer> renewed = tl::unexpected(Trouble{});
    std::optional<View> view;
    if (auto both = m_client.call_both(k_keepalive, renewal, k_range, queue_request(scope), brief())) {
      renewed = std::move(both->first);
      view = view_of(both->second.body, both->second.body);
    } else {
      renewed = m_client.call(k_keepalive, renewal, brief());
    }
    if (!renewed && renewed.error().kind != Kind::gone) { return failed(renewed.error()); }
    const std::int64_t ttl = renewed ? number(field(renewed->body, "result"), "TTL") : 0;
    if (ttl <= 0) {
      m_loss = "the lease has expired or was revoked";
      return std::nullopt;
    }
    if (!view) {
      auto seen = queue(scope, brief());
      if (!seen) { return Failed(seen.error()); }
      view = std::move(*seen);
    }
    m_loss = "the key was deleted";
    if (!view->ours || view->queue[*view->ours].created != m_created) { return std::nullopt; }
    const std::int64_t term = term_of(renewed->body);
    if (view->term != term) { continue; }
    if (m_granted.term == term) {
      m_granted.lease = lease_from(renewed->asked, std::chrono::seconds(ttl));
    } else {
      const auto changed = change_lease();
      if (!changed) { return Failed(changed.error()); }
      if (*changed == Found::lost) { return std::nullopt; }
    }
    if (m_is_held) { return Standing{true, 0, {}}; }
    return standing_in(*view);
  }
  return failed({Kind::unavailable, "it elects one leader after the other"});
}

Outcome<void> EtcdLock::settle()
{
  if (m_has_waited && m_note.owner) {
    m_note.owner->since_ms = std::chrono::duration_cast<milliseconds>(sys::wall_now()).count();
    const auto rewritten = rewrite(m_granted.id);
    if (!rewritten) { return Failed(rewritten.error()); }
  }
  return watch(m_key, m_created + 1); // in case somebody deletes it, or revokes the lease
}

Reply<void> EtcdLock::revoke(std::int64_t id, const Limits& limits)
{
  const auto revoked = m_client.call("/v3/lease/revoke", {{"ID", std::to_string(id)}}, limits);
  if (!revoked && revoked.error().kind != Kind::gone) { return tl::unexpected(revoked.error()); }
  std::erase(m_leases, id);
  return {};
}

std::optional<std::string> EtcdLock::leave()
{
  m_watch.reset();
  const Moment until = sys::elapsed_now() + k_farewell;
  std::optional<std::string> left_behind;
  const std::vector<std::int64_t> leases = m_leases;
  for (const std::int64_t lease : leases) {
    const auto revoked = revoke(lease, {until, k_farewell_try, true});
    if (revoked || left_behind) { continue; }
    left_behind =
      fmt::format("the key '{}' stays until its lease runs out: {}", m_key, failure_from(revoked.error()).text);
  }
  return left_behind;
}

} // namespace lockrun::engines::etcd
