#include "engines/etcd/lock.hpp"

#include "sys/clock.hpp"

#include <algorithm>
#include <cstring>
#include <random>
#include <sysexits.h>
#include <tuple>
#include <utility>

#include <fmt/format.h>

namespace lockrun::engines::etcd {
namespace {

using Kind = Trouble::Kind;
using Failed = tl::unexpected<Failure>;

constexpr milliseconds k_default_ttl{30'000};
constexpr milliseconds k_shortest_ttl{2'000};
constexpr milliseconds k_try{500}; // until another endpoint is asked while nothing presses
constexpr milliseconds k_shortest_watch_pause{200};
constexpr milliseconds k_patience{2'000}; // with each of them while there is no lease
// For giving back what we have. lockrun gives us a second, in which each of three endpoints should be asked.
constexpr milliseconds k_farewell{5'000};
constexpr milliseconds k_farewell_try{300};
constexpr const char* k_range = "/v3/kv/range";
constexpr const char* k_txn = "/v3/kv/txn";
constexpr const char* k_grant = "/v3/lease/grant";
constexpr const char* k_keepalive = "/v3/lease/keepalive";
constexpr const char* k_revoke = "/v3/lease/revoke";
constexpr const char* k_status = "/v3/maintenance/status";
constexpr int k_elections = 3;              // during one renewal
constexpr milliseconds k_settle_after{100}; // shorter commands do without
constexpr std::int64_t k_near = 8;          // positions at which each renewal looks whether something has changed,
constexpr std::int64_t k_looks_apart = 4;   // while at others it is one of so many

constexpr std::string_view k_parameters[] = {"ttl", "cacert", "cert", "key", "tls", "password-file", "publish"};

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
  case Kind::other_cluster:
    return {EX_CONFIG, "refused", fmt::format("cannot use etcd: {}", trouble.text), {},
      "name the members of one cluster: a lock in one is not held in another"};
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

milliseconds ttl_in(const Json& answer)
{
  return std::chrono::seconds(number(answer, "TTL"));
}

std::int64_t any_lease_id()
{
  std::random_device device;
  return static_cast<std::int64_t>((std::uint64_t{device()} << 32 | device()) >> 1) | 1;
}

} // namespace

Result<void, Failure> EtcdLock::open(const Url& url)
{
  for (const auto& parameter : url.parameters) {
    if (std::find(std::begin(k_parameters), std::end(k_parameters), parameter.first) == std::end(k_parameters)) {
      return Failed(usage(fmt::format("etcd has no parameter '{}'", parameter.first),
        "there are ttl=, tls=, cacert=, cert=, key=, password-file= and publish="));
    }
  }
  if (url.name.empty()) { return Failed(usage("the URL names no lock", "etcd://HOST:2379/NAME")); }
  auto opened = m_client.open(url);
  if (!opened) { return opened; }
  m_prefix = url.name + '/';
  return {};
}

// With a lease there is time for as long as that is good: no server that may still answer is given up before.
Limits EtcdLock::brief() const
{
  const milliseconds ttl = m_lease.time.ttl;
  const milliseconds one_try = ttl > milliseconds(0) ? try_limit(ttl) : k_try;
  const milliseconds patience = std::max(one_try, k_patience) * static_cast<int>(m_client.endpoints());
  return {
    std::max<Instant>(sys::elapsed_now() + patience, m_lease.time.deadline), one_try, false, ttl > milliseconds(0)};
}

EtcdLock::View EtcdLock::view_of(const Json& range_response, const Json& answer) const
{
  const Json& header = field(answer, "header");
  View view{members_of(range_response, m_prefix), count(header, "revision"), term_of(answer), {}};
  std::erase_if(view.queue, [this](const Member& member) {
    return std::find(m_former_keys.begin(), m_former_keys.end(), member.key) != m_former_keys.end();
  });
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

Result<EtcdLock::View, Failure> EtcdLock::queue(Scope scope, const Limits& limits)
{
  const auto answer = m_client.call(k_range, queue_request(scope), limits);
  if (!answer) { return failed(answer.error()); }
  return view_of(answer->body, answer->body);
}

Result<std::vector<Contender>, Failure> EtcdLock::status()
{
  const Limits limits = brief();
  const auto view = queue(Scope::everybody, limits);
  if (!view) { return Failed(view.error()); }
  const auto agreed = m_client.agree(limits.until);
  if (!agreed) { return failed(agreed.error()); }
  std::vector<Contender> contenders;
  for (std::size_t i = 0; i < view->queue.size(); ++i) { contenders.push_back(contender_of(view->queue, i)); }
  std::stable_partition(
    contenders.begin(), contenders.end(), [](const Contender& contender) { return !contender.waits; });
  return contenders;
}

EtcdLock::EtcdLease EtcdLock::new_lease()
{
  return m_leases.emplace_back(EtcdLease{any_lease_id(), sys::elapsed_now()});
}

const EtcdLock::EtcdLease* EtcdLock::find(std::int64_t id) const
{
  const auto found =
    std::find_if(m_leases.begin(), m_leases.end(), [id](const EtcdLease& one) { return one.id == id; });
  return found == m_leases.end() ? nullptr : &*found;
}

void EtcdLock::remember(const EtcdLease& granted)
{
  for (EtcdLease& one : m_leases) {
    if (one.id == granted.id) { one = granted; }
  }
}

Json EtcdLock::grant_request(std::int64_t id, milliseconds ttl)
{
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(ttl);
  return {{"TTL", std::to_string(seconds.count())}, {"ID", std::to_string(id)}};
}

// Can be repeated: what counts is when this ID was asked for first.
Reply<void> EtcdLock::ask_for(EtcdLease& fresh, milliseconds ttl, const Limits& limits)
{
  const auto answer = m_client.call(k_grant, grant_request(fresh.id, ttl), limits.with_late(fresh.id));
  if (!answer && answer.error().kind != Kind::exists) { return tl::unexpected(answer.error()); }
  fresh.time = lease_from(fresh.asked, answer ? ttl_in(answer->body) : ttl); // or a try whose answer got lost
  remember(fresh);
  return {};
}

Json EtcdLock::put_request(const Note& note, std::int64_t lease) const
{
  return {{"request_put",
    {{"key", encode_base64(m_key)}, {"value", encode_base64(write_note(note))}, {"lease", std::to_string(lease)}}}};
}

// Our key, with the first slot if nobody is there.
Json EtcdLock::slotted_request() const
{
  Note first = m_note;
  first.slot = 0;
  const Json is_empty = {{"key", encode_base64(m_prefix)}, {"range_end", encode_base64(end_of(m_prefix))},
    {"target", "MOD"}, {"result", "LESS"}, {"mod_revision", "1"}};
  return {
    {"request_txn", {{"compare", Json::array({is_empty})}, {"success", Json::array({put_request(first, m_lease.id)})},
                      {"failure", Json::array({put_request(m_note, m_lease.id)})}}}};
}

// Makes our key unless it is there already, so that it can be repeated; with `unchanged_since` only if nobody has
// joined after that revision.
Json EtcdLock::key_request(std::optional<std::int64_t> unchanged_since) const
{
  const std::string prefix = encode_base64(m_prefix);
  const std::string end = encode_base64(end_of(m_prefix));
  const Json everybody = {{"request_range", {{"key", prefix}, {"range_end", end}}}};
  Json condition = {{"key", encode_base64(m_key)}, {"target", "CREATE"}, {"result", "EQUAL"}, {"create_revision", "0"}};
  if (unchanged_since) {
    condition = {{"key", prefix}, {"range_end", end}, {"target", "CREATE"}, {"result", "LESS"},
      {"create_revision", std::to_string(*unchanged_since + 1)}};
  }
  Json deeds = Json::array();
  for (const std::string& former : m_former_keys) {
    deeds.push_back({{"request_delete_range", {{"key", encode_base64(former)}}}});
  }
  const bool may_choose = m_note.slots > 0 && !m_note.slot;
  deeds.push_back(may_choose ? slotted_request() : put_request(m_note, m_lease.id));
  deeds.push_back(everybody);
  return {{"compare", Json::array({condition})}, {"success", deeds}, {"failure", Json::array({everybody})}};
}

// Asks for a lease and makes our key in one go. None: the lease is there, and the key is to be asked for once more.
Reply<std::optional<Json>> EtcdLock::make_lease_and_key(
  milliseconds ttl, std::optional<std::int64_t> unchanged_since, const Limits& limits)
{
  EtcdLease fresh = new_lease();
  if (!m_key.empty()) { m_former_keys.push_back(m_key); }
  m_key = fmt::format("{}{:x}", m_prefix, fresh.id);
  m_watch.reset(); // that of another key
  m_lease = fresh;
  auto replies = m_client.call_all({{k_status, Json::object()}, {k_range, marker_request()},
                                     {k_grant, grant_request(fresh.id, ttl)}, {k_txn, key_request(unchanged_since)}},
    limits.with_late(fresh.id));
  m_lease = {};
  if (!replies || !(*replies)[2] || !(*replies)[3]) {
    const auto granted = ask_for(fresh, ttl, limits);
    if (!granted) { return tl::unexpected(granted.error()); }
    m_lease = fresh;
    return std::nullopt;
  }
  const auto& [status, marker, granted, made] = std::tie((*replies)[0], (*replies)[1], (*replies)[2], (*replies)[3]);
  fresh.time = lease_from(fresh.asked, ttl_in(granted->body));
  // If no other leader came in between, it was this one.
  if (status && term_of(status->body) == term_of(made->body)) { fresh.term = term_of(made->body); }
  remember(fresh);
  m_lease = fresh;
  take_history(status, marker);
  return std::optional(made->body);
}

// The view is the queue afterwards; our key is not in it if it could not be made.
Result<EtcdLock::View, Failure> EtcdLock::make_key(
  milliseconds ttl, std::optional<std::int64_t> unchanged_since, const Limits& limits)
{
  std::optional<Json> made;
  if (m_lease.id == 0) {
    auto both = make_lease_and_key(ttl, unchanged_since, limits);
    if (!both) { return failed(both.error()); }
    made = std::move(*both);
  }
  if (!made) {
    auto answer = m_client.call(k_txn, key_request(unchanged_since), limits.with_late(m_lease.id));
    if (!answer && answer.error().kind == Kind::gone) { // it took us longer than the lease lives
      m_lease = {};
      return View{};
    }
    if (!answer) { return failed(answer.error()); }
    made = std::move(answer->body);
  }
  const Json& responses = field(*made, "responses");
  const Json& last = responses.is_array() && !responses.empty() ? responses.back() : responses;
  View view = view_of(field(last, "response_range"), *made);
  if (view.ours) { adopt(view); }
  return view;
}

// What is known of the cluster's history just before our key was made. Who may not read the key of the epoch has none.
void EtcdLock::take_history(const Reply<Answer>& status, const Reply<Answer>& marker)
{
  m_log_position = status ? log_position_of(status->body) : LogPosition{};
  if (marker) { m_marker = marker_of(marker->body); }
  if (!marker && marker.error().kind == Kind::authentication) { m_epoch.emplace(); }
}

// Tokens are revisions: those of different histories of a cluster cannot be compared.
Result<void, Failure> EtcdLock::learn_epoch(const Limits& limits)
{
  if (!m_epoch && !m_marker) {
    const auto status = m_client.call(k_status, Json::object(), limits);
    const auto marker = m_client.call(k_range, marker_request(), limits);
    take_history(status, marker);
    if (!m_epoch && !m_marker) { return failed(marker.error()); }
  }
  if (m_epoch) { return {}; }
  if (m_marker->epoch.empty() || !is_continued(*m_marker, m_log_position)) {
    const Marker fresh = new_marker(m_log_position);
    const auto answer = m_client.call(k_txn, marker_change(fresh, *m_marker), limits);
    if (!answer && answer.error().kind != Kind::authentication) { return failed(answer.error()); }
    m_marker = fresh;
    if (answer && field(answer->body, "succeeded") != true) { // somebody was faster, or an earlier try of ours
      const Json& responses = field(answer->body, "responses");
      m_marker = responses.empty() ? Marker{} : marker_of(field(responses.front(), "response_range"));
    }
    if (!answer || m_marker->epoch.empty()) { m_marker = Marker{}; } // or we may not write it
  }
  m_epoch = m_marker->epoch.empty() ? std::string() : m_client.cluster() + '-' + m_marker->epoch;
  return {};
}

// What an earlier try, whose answer got lost, has made is as good as what we would make now.
void EtcdLock::adopt(const View& view)
{
  m_created = view.queue[*view.ours].created;
  m_note.slot = view.queue[*view.ours].note.slot;
  see(view.queue[*view.ours]);
}

// What our key is like now. A write that assumes what it was like before comes too late.
void EtcdLock::see(const Member& self)
{
  if (self.modified != m_modified) { m_unanswered.reset(); }
  m_modified = self.modified;
}

// Our old key, if there is one, goes with the transaction that makes the new one, and counts no more in what we see:
// whoever waits behind it waits for us no longer than that takes.
Result<Standing, Failure> EtcdLock::join(const Demand& demand, Instant until)
{
  const milliseconds ttl = demand.ttl > milliseconds(0) ? demand.ttl : k_default_ttl;
  if (ttl < k_shortest_ttl) {
    return Failed(usage(fmt::format("ttl={}ms leaves no time to renew the lease", ttl.count()), "it is 2s at least"));
  }
  if (const auto agreed = m_client.agree(); !agreed) { return failed(agreed.error()); }
  m_is_held = false;
  m_note = {demand.mode, demand.slots, {}, demand.max_waiters.has_value(), demand.owner};
  if (sys::elapsed_now() >= m_lease.time.deadline) { m_lease = {}; } // that of a place that was lost
  // Whatever the time is, each endpoint gets its turn.
  const auto share = std::chrono::duration_cast<milliseconds>(until - sys::elapsed_now()) / m_client.endpoints();
  const Limits limits{until, std::clamp<milliseconds>(share, milliseconds(1), k_try), true};
  auto standing = take_place(demand, ttl, limits);
  if (!standing) { return standing; }
  const auto agreed = m_client.agree(until);
  if (!agreed) { return failed(agreed.error()); }
  const auto learned = learn_epoch(limits);
  if (!learned) { return Failed(learned.error()); }
  m_standing = *std::move(standing);
  m_renewal = renewal_of(m_lease.time);
  // What the server granted a moment ago needs no second look.
  if (m_is_held && sys::elapsed_now() >= fresh_until(m_lease.time)) { m_renewal = sys::elapsed_now(); }
  plan_settling();
  return tell();
}

Result<Standing, Failure> EtcdLock::proceed()
{
  if (const auto agreed = m_client.agree(); !agreed) {
    const Failure failure = failure_from(agreed.error());
    if (!m_is_held) { return Failed(Failure{EX_TEMPFAIL, k_lost, failure.text}); } // to join again says the same
    if (!std::exchange(m_has_told_of_clusters, true)) { m_attention.complain(failure); }
  }
  const Instant now = sys::elapsed_now();
  if (is_stirred()) {
    m_renewal = now;
    m_is_stirred = true; // until we have looked
  }
  if (now >= m_renewal) {
    const auto kept = keep_place();
    if (!kept) { return Failed(kept.error()); }
    if (*kept) {
      m_renewal = renewal_of(m_lease.time);
      return tell();
    }
    auto standing = renew();
    if (!standing) { return Failed(standing.error()); }
    if (!*standing) { return Failed(loss()); }
    m_standing = **std::move(standing);
    m_renewal = renewal_of(m_lease.time);
    plan_settling();
  } else if (m_settle_at && now >= *m_settle_at) {
    m_settle_at.reset();
    settle();
  }
  return tell();
}

// The server has said so, so that it was ours for certain only when it was renewed last.
Failure EtcdLock::loss() const
{
  Failure lost{EX_TEMPFAIL, k_lost, "its key was deleted, or its lease was revoked or has expired"};
  lost.sure_until = asked_at(m_lease.time);
  return lost;
}

// Where we stand, and what is due next.
Standing EtcdLock::tell()
{
  const Instant never = Instant::max();
  const Instant next = std::min({m_renewal, m_settle_at.value_or(never), m_watch_at.value_or(never)});
  m_standing.pace = {m_lease.time.deadline, next};
  return m_standing;
}

Ownership EtcdLock::ownership() const
{
  return {std::to_string(m_created), m_key, m_note.slot, m_lease.time.ttl, m_epoch.value_or("")};
}

Result<Standing, Failure> EtcdLock::take_place(const Demand& demand, milliseconds ttl, const Limits& limits)
{
  const bool never_waits = demand.wait == Wait::never;
  const auto refusal = [&](const View& view, std::size_t index, const Rank& rank) -> std::optional<Failure> {
    Failure failure{EX_TEMPFAIL, "busy", "it is held"};
    if (rank.is_held || rank.slot_to_claim || (never_waits && rank.is_promised)) { return std::nullopt; }
    if (!never_waits) {
      if (!demand.max_waiters || rank.counted_waiters < *demand.max_waiters) { return std::nullopt; }
      failure = {EX_TEMPFAIL, "too_many_waiters", fmt::format("{} wait already", rank.counted_waiters)};
    }
    failure.standing = standing_behind(view, index, rank);
    if (failure.standing->holder) { failure.holder = failure.standing->holder->text; }
    return failure;
  };
  // Others may join all the time. Where that would leave us nothing we may join only if nobody has; of several that may
  // hold it together one that comes too late finds out afterwards.
  const bool must_be_next = demand.max_waiters || (never_waits && demand.mode == Mode::exclusive && demand.slots == 0);
  std::optional<View> view;                           // none: we have to look
  Backoff pauses(milliseconds(1), milliseconds(500)); // for others that are faster, or a server that makes no key
  for (bool is_first = true;; is_first = false) {
    if (!is_first && m_attention.pause(sys::elapsed_now() + pauses.next()) == Attention::Woken::by_lockrun) {
      return failed({Kind::interrupted, std::string()});
    }
    std::optional<std::int64_t> unchanged_since;
    m_note.slot.reset();
    if (never_waits || demand.max_waiters) {
      if (!view) {
        auto seen = queue(Scope::everybody, limits);
        if (!seen) { return Failed(seen.error()); }
        view = *std::move(seen);
      }
      if (view->ours) { // we were interrupted just after it was made
        adopt(*view);
        const auto standing = standing_in(*view);
        if (!standing) { return Failed(standing.error()); }
        if (*standing) { return **standing; }
      }
      const std::size_t last = view->queue.size();
      const Rank rank = rank_of(view->queue, last, m_note);
      if (auto failure = refusal(*view, last, rank)) { return Failed(*std::move(failure)); }
      if (must_be_next) {
        m_note.slot = rank.slot_to_claim;
        unchanged_since = view->revision;
      }
    }
    auto made = make_key(ttl, unchanged_since, limits);
    if (!made) { return Failed(made.error()); }
    view.reset();
    if (!made->ours) { // another caller came in between: this is the queue with it
      if (made->revision != 0) { view = *std::move(made); }
      continue;
    }
    if (never_waits) {
      const std::size_t ours = *made->ours;
      if (auto failure = refusal(*made, ours, rank_of(made->queue, ours, m_note))) {
        return Failed(*std::move(failure));
      }
    }
    const auto standing = standing_in(*made);
    if (!standing) { return Failed(standing.error()); }
    if (*standing) { return **standing; }
  }
}

// What a look has shown of those who are before us.
void EtcdLock::see(const View& view, const Rank& rank)
{
  m_is_stirred = false;
  m_seen = {view.revision, view.queue.front().key, view.queue[rank.obstacle.value_or(0)].key, 0};
}

// Of one at `index` who does not have it.
Standing EtcdLock::standing_behind(const View& view, std::size_t index, const Rank& rank) const
{
  Standing standing{false, rank.position, {}, {}};
  for (std::size_t i = 0; i < index; ++i) {
    const auto& owner = view.queue[i].note.owner;
    const bool is_near = i != rank.holder && owner && owner->host == m_note.owner->host;
    if (is_near && holds(view.queue, i)) { standing.nearby.push_back(contender_of(view.queue, i)); }
  }
  if (rank.holder) { standing.holder = contender_of(view.queue, *rank.holder); }
  return standing;
}

// None: our key is gone.
Result<std::optional<Standing>, Failure> EtcdLock::standing_in(const View& view)
{
  if (!view.ours || view.queue[*view.ours].created != m_created) { return std::nullopt; }
  const Rank rank = rank_of(view.queue, *view.ours, m_note);
  bool is_held = rank.is_held;
  if (rank.slot_to_claim) {
    m_note.slot = rank.slot_to_claim;
    const auto rewritten = rewrite(m_lease, brief());
    if (rewritten && *rewritten == Found::ours) {
      is_held = true;
    } else {
      m_note.slot.reset();
      if (!rewritten && rewritten.error().kind != Kind::gone) { return failed(rewritten.error()); }
      if (!rewritten || *rewritten == Found::lost) { return std::nullopt; }
      return failed({Kind::unavailable, "our key has changed meanwhile"});
    }
  }
  if (is_held) {
    m_is_held = true;
    return Standing{true, 0, {}, {}};
  }
  m_has_waited = true;
  see(view, rank);
  const auto watched = watch(rank.obstacle ? view.queue[*rank.obstacle].key : m_prefix, view.revision + 1);
  if (!watched) { return Failed(watched.error()); }
  if (rank.position > 1) { m_client.rest(); } // the next one in line will need it soon, the others may be many
  return standing_behind(view, *view.ours, rank);
}

// Writes our key once more, on this lease, if it is as we have seen it last: otherwise a write that was stuck somewhere
// could undo a later one.
Reply<EtcdLock::Found> EtcdLock::rewrite(EtcdLease& onto, const Limits& limits)
{
  const Json condition = {{"key", encode_base64(m_key)}, {"target", "MOD"}, {"result", "EQUAL"},
    {"mod_revision", std::to_string(m_modified)}};
  const Json put = put_request(m_note, onto.id);
  const Json range = {{"request_range", queue_request(Scope::us)}};
  const Json request = {
    {"compare", Json::array({condition})}, {"success", Json::array({put})}, {"failure", Json::array({range})}};
  const auto answer = m_client.call(k_txn, request, limits.with_late(onto.id));
  if (!answer) {
    if (onto.id != m_lease.id) { m_unanswered = std::min(m_unanswered.value_or(Instant::max()), onto.time.deadline); }
    return tl::unexpected(answer.error());
  }
  const std::int64_t term = term_of(answer->body);
  onto.term = onto.term == term ? term : 0;
  if (field(answer->body, "succeeded") == true) {
    m_unanswered.reset();
    m_modified = count(field(answer->body, "header"), "revision");
    return Found::ours;
  }
  const Json& responses = field(answer->body, "responses");
  const Json& found = responses.empty() ? responses : field(responses.front(), "response_range");
  const View view = view_of(found, answer->body);
  if (!view.ours || view.queue[*view.ours].created != m_created) { return Found::lost; }
  const Member& self = view.queue[*view.ours];
  see(self);
  // An earlier try of ours whose answer got lost.
  return self.lease == onto.id && self.note == read_note(write_note(m_note)) ? Found::ours : Found::changed;
}

// Our key moves to a lease that was granted in `term`, the present one. If that fails half-way the key may be on
// either, and no renewal of the old one makes us surer than the new one does.
Reply<EtcdLock::Found> EtcdLock::change_lease(std::int64_t term)
{
  EtcdLease fresh = new_lease();
  const auto asked = ask_for(fresh, m_lease.time.ttl, brief());
  if (!asked) { return tl::unexpected(asked.error()); }
  fresh.term = term;
  auto moved = rewrite(fresh, brief());
  if (moved && *moved == Found::ours) { m_lease = fresh; }
  remember(fresh);
  return moved;
}

// Those that our key is not on and cannot get to.
void EtcdLock::revoke_others()
{
  if (m_unanswered) { return; } // a later renewal sees where it is
  const std::vector<EtcdLease> leases = m_leases;
  for (const EtcdLease& one : leases) {
    const milliseconds patience = try_limit(m_lease.time.ttl);
    const Limits limits{std::min<Instant>(sys::elapsed_now() + patience, m_renewal), patience};
    if (one.id != m_lease.id) { (void)revoke(one.id, limits); } // then it is left for the end
  }
}

LeaseTime EtcdLock::at_most(LeaseTime time) const
{
  if (m_unanswered) { time.deadline = std::min(time.deadline, *m_unanswered); }
  return time;
}

Json EtcdLock::watch_request(const std::string& key, std::int64_t since) const
{
  Json request = {{"key", encode_base64(key)}, {"start_revision", std::to_string(since)}};
  if (key == m_prefix) { request["range_end"] = encode_base64(end_of(key)); }
  // What is written matters only if it is the slot of the one before us: then it is our turn to choose.
  const bool awaits_a_choice = m_note.slots > 0 && key != m_key && key != m_prefix;
  if (!awaits_a_choice) { request["filters"] = Json::array({"NOPUT"}); }
  return {{"create_request", request}};
}

// The key or prefix whose events may change where we stand, and our own key.
Result<void, Failure> EtcdLock::watch(const std::string& key, std::int64_t since)
{
  if (m_watch && m_watched == key && m_watched_at == m_client.endpoint()) { return {}; }
  if (m_watch_at) { return {}; }
  m_watch.reset();
  std::vector<Json> requests{watch_request(key, since)};
  if (key != m_key && key != m_prefix) { requests.push_back(watch_request(m_key, since)); }
  auto opened = m_client.watch(requests, brief());
  if (!opened && opened.error().kind == Kind::interrupted) { return failed(opened.error()); }
  if (!opened) { // the next renewal finds another endpoint, or says what is wrong
    pause_watching();
    return {};
  }
  m_watch = std::move(*opened);
  m_watched = key;
  m_watched_at = m_client.endpoint();
  return {};
}

// A server that refuses each watch, or ends it at once, is not to be asked without end.
void EtcdLock::pause_watching()
{
  m_watch.reset();
  m_watch_at = sys::elapsed_now() + m_watch_pauses.next(std::max(m_lease.time.ttl / 3, k_shortest_watch_pause));
}

std::vector<::pollfd> EtcdLock::interests() const
{
  if (!m_watch) { return {}; }
  return {{m_watch->descriptor(), POLLIN, 0}};
}

// Whether there is a reason to renew early.
bool EtcdLock::is_stirred()
{
  if (m_watch_at && sys::elapsed_now() >= *m_watch_at) { // that opens another one
    m_watch_at.reset();
    return true;
  }
  if (!m_watch) { return false; }
  const Watch::News news = m_watch->take();
  if (news.has_events) { m_watch_pauses.reset(); }
  if (news.is_over) { pause_watching(); }
  return news.has_events;
}

// Leaders that are none any more make two kinds of trouble. One that was cut off or frozen may renew a lease that its
// successor has ended already: so behind the renewal there is a read through the quorum, and both must be answered in
// the same term, which was then nobody else's in between. And one that was frozen may, thawed, end a lease that its
// successor has renewed (etcd's issue 15247): so a lease is renewed in the term in which it was granted, and in the
// next one replaced. A server that refuses another one, because it is full, leaves us with the old one: without the
// frozen leader that is as good.
// The answer is that to this very request, since those on one connection come in order and a connection on which one
// was lost is closed: so the lease lives from the moment of this sending, not of an earlier one.
Result<std::optional<Standing>, Failure> EtcdLock::renew()
{
  for (int i = 0; i < k_elections; ++i) {
    std::optional<Answer> renewed;
    const auto view = keep_alive(renewed);
    if (!view) { return Failed(view.error()); }
    if (!view->ours || view->queue[*view->ours].created != m_created) { return std::nullopt; }
    const Member& self = view->queue[*view->ours];
    see(self);
    if (const EtcdLease* const other = find(self.lease); other != nullptr && other->id != m_lease.id) {
      m_lease = *other; // a write of ours that was given up has got through after all
      continue;
    }
    if (!renewed) { return std::nullopt; }
    if (term_of(renewed->body) != view->term) { continue; }
    const auto kept = keep_lease(*renewed, self, view->term);
    if (!kept) { return Failed(kept.error()); }
    if (*kept == Found::lost) { return std::nullopt; }
    if (*kept == Found::changed) { continue; }
    if (m_is_held) {
      // Whatever ended the watch on our key. Without one the next renewal finds out.
      if (m_is_settled) { (void)watch(m_key, view->revision + 1); }
      return Standing{true, 0, {}, {}};
    }
    m_note.slot = self.note.slot;
    return standing_in(*view);
  }
  return failed({Kind::unavailable, "it elects one leader after the other"});
}

// Many may wait, and where nothing happens none of them looks at the others: a place in the queue lives as long as its
// lease does, and the watch tells what happens to us and before us. Whether the lock is ours in the end is decided by
// renew() alone. False: there is a reason to look.
Result<bool, Failure> EtcdLock::keep_place()
{
  if (m_is_held || m_is_stirred || !m_watch || m_unanswered) { return false; }
  const auto answer = m_client.call(k_keepalive, {{"ID", std::to_string(m_lease.id)}}, brief());
  if (!answer && answer.error().kind == Kind::gone) { return false; }
  if (!answer) { return failed(answer.error()); }
  const milliseconds ttl = ttl_in(field(answer->body, "result"));
  const bool is_kept = ttl > milliseconds(0) && term_of(answer->body) == m_lease.term;
  if (!is_kept || m_watched_at != m_client.endpoint()) { return false; }
  const auto is_same = is_queue_the_same(revision_of(answer->body));
  if (!is_same) { return Failed(is_same.error()); }
  if (!*is_same) { return false; }
  m_lease.time = lease_from(answer->asked, ttl);
  if (m_standing.position > 1) { m_client.rest(); }
  return true;
}

// As far as we have seen it, at its front and before us. A watch whose connection is dead without a sign would not
// tell.
Result<bool, Failure> EtcdLock::is_queue_the_same(std::int64_t revision)
{
  if (revision == m_seen.revision) { return true; } // nothing at all was written
  const bool is_near = m_standing.position <= k_near;
  if (++m_seen.renewals % k_looks_apart != 0 && !is_near) { return true; }
  const auto look = [](const std::string& key) {
    return Json{{"request_range", {{"key", encode_base64(key)}, {"count_only", true}, {"serializable", true}}}};
  };
  const Json request = {{"success", Json::array({look(m_key), look(m_seen.obstacle), look(m_seen.first)})}};
  const auto answer = m_client.call(k_txn, request, brief());
  if (!answer) { return failed(answer.error()); }
  const Json& responses = field(answer->body, "responses");
  const auto is_there = [&](std::size_t i) {
    return responses.size() > i && count(field(responses[i], "response_range"), "count") > 0;
  };
  if (!is_there(0) || !is_there(1)) { return false; }
  if (is_there(2)) {
    m_seen.revision = revision;
    return true;
  }
  // Only our position has changed. The more there are to be read, the less often.
  return m_seen.renewals * k_near < m_standing.position;
}

// Our key stays on the lease that was renewed, or moves to another one.
Result<EtcdLock::Found, Failure> EtcdLock::keep_lease(const Answer& renewed, const Member& self, std::int64_t term)
{
  const bool is_renewed = self.lease == m_lease.id;
  if (!is_renewed || m_lease.term != term) {
    const auto changed = change_lease(term);
    if (changed) { return *changed; }
    if (!is_renewed || changed.error().kind != Kind::refused) { return failed(changed.error()); }
  }
  m_lease.time = at_most(lease_from(renewed.asked, ttl_in(field(renewed.body, "result"))));
  return Found::ours;
}

// Without `renewed` the lease is gone.
Result<EtcdLock::View, Failure> EtcdLock::keep_alive(std::optional<Answer>& renewed)
{
  const Json request = {{"ID", std::to_string(m_lease.id)}};
  const Scope scope = m_is_held ? Scope::us : Scope::up_to_us;
  const auto is_alive = [](const Json& answer) { return number(field(answer, "result"), "TTL") > 0; };
  if (auto both = m_client.call_all({{k_keepalive, request}, {k_range, queue_request(scope)}}, brief());
      both && (*both)[0] && (*both)[1]) {
    auto [kept, seen] = std::tie((*both)[0], (*both)[1]);
    if (is_alive(kept->body)) { renewed = std::move(*kept); }
    return view_of(seen->body, seen->body);
  }
  auto answer = m_client.call(k_keepalive, request, brief());
  if (!answer && answer.error().kind != Kind::gone) { return failed(answer.error()); }
  if (!answer || !is_alive(answer->body)) { return View{}; }
  renewed = std::move(*answer);
  return queue(scope, brief());
}

// What can wait until lockrun knows how we stand.
void EtcdLock::plan_settling()
{
  if (m_is_held && !m_is_settled) {
    m_settle_at = sys::elapsed_now() + k_settle_after;
  } else if (m_leases.size() > 1 && !m_unanswered) {
    m_settle_at = sys::elapsed_now();
  }
}

// Nothing depends on it, and the next renewal, which it does not delay, finds out what is wrong.
void EtcdLock::settle()
{
  if (m_is_held && !std::exchange(m_is_settled, true)) {
    if (m_has_waited && m_note.owner) {
      m_note.owner->since_ms = std::chrono::duration_cast<milliseconds>(sys::wall_now()).count();
      Limits limits = brief();
      limits.until = std::min(limits.until, m_renewal);
      (void)rewrite(m_lease, limits);
    }
    (void)watch(m_key, m_created + 1); // in case somebody deletes it, or revokes the lease
  }
  revoke_others();
}

Reply<void> EtcdLock::revoke(std::int64_t id, const Limits& limits)
{
  const Json request = {{"ID", std::to_string(id)}};
  m_client.recall(id, k_revoke, request); // what is late would bring lease and key back
  const auto revoked = m_client.call(k_revoke, request, limits);
  if (!revoked && revoked.error().kind != Kind::gone) { return tl::unexpected(revoked.error()); }
  std::erase_if(m_leases, [id](const EtcdLease& one) { return one.id == id; });
  return {};
}

std::optional<std::string> EtcdLock::leave()
{
  const Instant until = sys::elapsed_now() + k_farewell;
  std::optional<std::string> left_behind;
  const std::vector<EtcdLease> leases = m_leases;
  for (const EtcdLease& one : leases) {
    if (one.asked > m_client.last_asked()) { continue; } // nothing has been sent since, so that no server knows it
    const auto revoked = revoke(one.id, {until, k_farewell_try, true});
    if (revoked || left_behind) { continue; }
    left_behind =
      fmt::format("the key '{}' stays until its lease runs out: {}", m_key, failure_from(revoked.error()).text);
  }
  m_client.await_late(std::min<Instant>(until, sys::elapsed_now() + k_farewell_try));
  return left_behind;
}

} // namespace lockrun::engines::etcd
