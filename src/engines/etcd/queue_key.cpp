#include "engines/etcd/queue_key.hpp"

#include "engines/etcd/failure.hpp"
#include "engines/etcd/requests.hpp"
#include "sys/clock.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

#include <fmt/format.h>

namespace lockrun::engines::etcd {

using Kind = Trouble::Kind;
using Failed = tl::unexpected<Failure>;

namespace {

constexpr milliseconds k_try{500};        // until another endpoint is asked while there is no lease
constexpr milliseconds k_patience{2'000}; // with each of them, then
// For giving back what we have. lockrun gives us a second, in which each of three endpoints should be asked.
constexpr milliseconds k_farewell{5'000};
constexpr milliseconds k_farewell_try{300};
constexpr int k_elections = 3; // during one renewal

bool is_alive(const Answer& renewed)
{
  return ttl_in(field(renewed.body, "result")) > milliseconds(0);
}

} // namespace

void QueueKey::set_since(std::int64_t since_ms)
{
  if (m_note.owner) { m_note.owner->since_ms = since_ms; }
}

Limits QueueKey::limits() const
{
  const milliseconds ttl = m_lease.time.ttl;
  const bool has_lease = ttl > milliseconds(0);
  const milliseconds one_try = has_lease ? try_limit(ttl) : k_try;
  const milliseconds patience = std::max(one_try, k_patience) * static_cast<int>(m_client.endpoints());
  return {std::max<Instant>(sys::elapsed_now() + patience, m_lease.time.deadline), one_try, false, has_lease};
}

QueueView QueueKey::view_of(const Json& range_response, const Json& answer) const
{
  QueueView view{members_of(range_response, m_prefix), revision_of(answer), term_of(answer), {}};
  std::erase_if(view.queue,
    [this](const Member& member) { return std::find(m_former.begin(), m_former.end(), member.key) != m_former.end(); });
  for (std::size_t i = 0; i < view.queue.size(); ++i) {
    if (view.queue[i].key == m_key) { view.ours = i; }
  }
  return view;
}

Json QueueKey::range_of(Scope scope) const
{
  if (scope == Scope::us) { return range_of_key(m_key); }
  return range_below(m_prefix, scope == Scope::up_to_us ? std::optional(m_created) : std::nullopt);
}

Result<QueueView, Failure> QueueKey::look(Scope scope, const Limits& limits)
{
  const auto answer = m_client.call(k_range, range_of(scope), limits);
  if (!answer) { return failed(answer.error()); }
  return view_of(answer->body, answer->body);
}

bool QueueKey::is_in(const QueueView& view) const
{
  return view.ours && view.queue[*view.ours].created == m_created;
}

void QueueKey::renounce(Note note)
{
  m_note = std::move(note);
  if (sys::elapsed_now() >= m_lease.time.deadline) { m_lease = {}; }
}

Json QueueKey::make_on(std::int64_t lease, std::optional<std::int64_t> unchanged_since) const
{
  return make_request({m_prefix, m_key, m_note, lease, m_former, unchanged_since});
}

Result<QueueView, Failure> QueueKey::make(
  milliseconds ttl, std::optional<std::int64_t> unchanged_since, const Limits& limits)
{
  std::optional<Json> made;
  if (m_lease.id == 0) {
    auto both = make_with_lease(ttl, unchanged_since, limits);
    if (!both) { return failed(both.error()); }
    made = std::move(*both);
  }
  if (!made) {
    auto answer = m_client.call(k_txn, make_on(m_lease.id, unchanged_since), limits.with_late(m_lease.id));
    if (!answer && answer.error().kind == Kind::gone) { // it took us longer than the lease lives
      m_lease = {};
      return QueueView{};
    }
    if (!answer) { return failed(answer.error()); }
    made = std::move(answer->body);
  }
  QueueView view = view_of(found_last(*made), *made);
  if (view.ours) { adopt(view); }
  return view;
}

// Asks for a lease and makes the key in one go. None: the lease is there, and the key is to be asked for once more.
Reply<std::optional<Json>> QueueKey::make_with_lease(
  milliseconds ttl, std::optional<std::int64_t> unchanged_since, const Limits& limits)
{
  EtcdLease fresh = m_leases.add();
  if (!m_key.empty()) { m_former.push_back(m_key); }
  m_key = fmt::format("{}{:x}", m_prefix, fresh.id);
  auto replies =
    m_client.call_all({{k_status, Json::object()}, {k_range, marker_request()}, {k_grant, grant_request(fresh.id, ttl)},
                        {k_txn, make_on(fresh.id, unchanged_since)}},
      limits.with_late(fresh.id));
  if (!replies || !(*replies)[2] || !(*replies)[3]) {
    const auto granted = m_leases.grant(fresh, ttl, limits);
    if (!granted) { return tl::unexpected(granted.error()); }
    m_lease = fresh;
    return std::nullopt;
  }
  const auto& [status, marker, granted, made] = std::tie((*replies)[0], (*replies)[1], (*replies)[2], (*replies)[3]);
  fresh.time = lease_from(fresh.asked, ttl_in(granted->body));
  // If no other leader came in between, it was this one.
  if (status && term_of(status->body) == term_of(made->body)) { fresh.term = term_of(made->body); }
  m_leases.update(fresh);
  m_lease = fresh;
  m_epoch.take(status, marker);
  return std::optional(made->body);
}

void QueueKey::adopt(const QueueView& view)
{
  const Member& self = view.queue[*view.ours];
  m_created = self.created;
  m_note.slot = self.note.slot;
  see(self);
}

// What the key is like now. A write that assumes what it was like before comes too late.
void QueueKey::see(const Member& self)
{
  if (self.modified != m_modified) { m_unanswered.reset(); }
  m_modified = self.modified;
}

// On this lease, if the key is as we have seen it last: otherwise a write that was stuck somewhere could undo a later
// one.
Reply<QueueKey::State> QueueKey::write(EtcdLease& onto, const Limits& limits)
{
  const Json request = rewrite_request(m_key, m_note, onto.id, m_modified);
  const auto answer = m_client.call(k_txn, request, limits.with_late(onto.id));
  if (!answer) {
    if (onto.id != m_lease.id) { m_unanswered = std::min(m_unanswered.value_or(Instant::max()), onto.time.deadline); }
    return tl::unexpected(answer.error());
  }
  const std::int64_t term = term_of(answer->body);
  onto.term = onto.term == term ? term : 0;
  if (field(answer->body, "succeeded") == true) {
    m_unanswered.reset();
    m_modified = revision_of(answer->body);
    return State::ours;
  }
  return state_in(view_of(found_last(answer->body), answer->body), onto.id);
}

// Of a key that we could not write because it has changed.
QueueKey::State QueueKey::state_in(const QueueView& view, std::int64_t lease)
{
  if (!is_in(view)) { return State::lost; }
  const Member& self = view.queue[*view.ours];
  see(self);
  // An earlier try of ours whose answer got lost.
  return self.lease == lease && self.note == read_note(write_note(m_note)) ? State::ours : State::changed;
}

// The key moves to a lease that was granted in `term`, the present one. If that fails half-way the key may be on
// either, and no renewal of the old one makes us surer than the new one does.
Reply<QueueKey::State> QueueKey::change_lease(std::int64_t term)
{
  EtcdLease fresh = m_leases.add();
  const auto granted = m_leases.grant(fresh, m_lease.time.ttl, limits());
  if (!granted) { return tl::unexpected(granted.error()); }
  fresh.term = term;
  auto moved = write(fresh, limits());
  if (moved && *moved == State::ours) { m_lease = fresh; }
  m_leases.update(fresh);
  return moved;
}

LeaseTime QueueKey::at_most(LeaseTime time) const
{
  if (m_unanswered) { time.deadline = std::min(time.deadline, *m_unanswered); }
  return time;
}

// Leaders that are none any more make two kinds of trouble. One that was cut off or frozen may renew a lease that its
// successor has ended already: so after the renewal there is a read through the quorum, and both must be answered in
// the same term, which was then nobody else's in between. And one that was frozen may, thawed, end a lease that its
// successor has renewed (etcd's issue 15247): so a lease is renewed in the term in which it was granted, and in the
// next one replaced. A server that refuses another one, because it is full, leaves us with the old one: without the
// frozen leader that is as good.
// The answer is that to this very request, since those on one connection come in order and a connection on which one
// was lost is closed: so the lease lives from the moment of this sending, not of an earlier one.
Result<std::optional<QueueView>, Failure> QueueKey::renew(Scope scope)
{
  for (int i = 0; i < k_elections; ++i) {
    std::optional<Answer> renewed;
    auto view = renew_once(scope, renewed);
    if (!view) { return Failed(view.error()); }
    if (!is_in(*view)) { return std::nullopt; }
    const Member& self = view->queue[*view->ours];
    see(self);
    if (const EtcdLease* const other = m_leases.find(self.lease); other != nullptr && other->id != m_lease.id) {
      m_lease = *other; // a write of ours that was given up has got through after all
      continue;
    }
    if (!renewed) { return std::nullopt; }
    if (term_of(renewed->body) != view->term) { continue; }
    const auto kept = keep_lease(*renewed, self, view->term);
    if (!kept) { return Failed(kept.error()); }
    if (*kept == State::lost) { return std::nullopt; }
    if (*kept == State::ours) { return std::optional(*std::move(view)); }
  }
  return failed({Kind::unavailable, "it elects one leader after the other"});
}

// Without `renewed` the lease is gone.
Result<QueueView, Failure> QueueKey::renew_once(Scope scope, std::optional<Answer>& renewed)
{
  const Json request = lease_request(m_lease.id);
  if (auto both = m_client.call_all({{k_keepalive, request}, {k_range, range_of(scope)}}, limits());
      both && (*both)[0] && (*both)[1]) {
    auto [kept, seen] = std::tie((*both)[0], (*both)[1]);
    if (is_alive(*kept)) { renewed = std::move(*kept); }
    return view_of(seen->body, seen->body);
  }
  auto answer = keep_alive();
  if (!answer && answer.error().kind != Kind::gone) { return failed(answer.error()); }
  if (!answer || !is_alive(*answer)) { return QueueView{}; }
  renewed = std::move(*answer);
  return look(scope, limits());
}

// The key stays on the lease that was renewed, or moves to another one.
Result<QueueKey::State, Failure> QueueKey::keep_lease(const Answer& renewed, const Member& self, std::int64_t term)
{
  const bool is_renewed = self.lease == m_lease.id;
  if (!is_renewed || m_lease.term != term) {
    const auto changed = change_lease(term);
    if (changed) { return *changed; }
    if (!is_renewed || changed.error().kind != Kind::refused) { return failed(changed.error()); }
  }
  m_lease.time = at_most(lease_from(renewed.asked, ttl_in(field(renewed.body, "result"))));
  return State::ours;
}

Reply<Answer> QueueKey::keep_alive()
{
  return m_client.call(k_keepalive, lease_request(m_lease.id), limits());
}

bool QueueKey::is_kept(const Answer& renewed) const
{
  return is_alive(renewed) && term_of(renewed.body) == m_lease.term;
}

void QueueKey::extend(const Answer& renewed)
{
  m_lease.time = lease_from(renewed.asked, ttl_in(field(renewed.body, "result")));
}

void QueueKey::revoke_others(Instant until)
{
  if (m_unanswered) { return; } // a later renewal sees where it is
  const std::vector<EtcdLease> leases = m_leases.all();
  for (const EtcdLease& one : leases) {
    const milliseconds patience = try_limit(m_lease.time.ttl);
    const Limits limits{std::min<Instant>(sys::elapsed_now() + patience, until), patience};
    if (one.id != m_lease.id) { (void)m_leases.revoke(one.id, limits); } // then it is left for the end
  }
}

std::optional<std::string> QueueKey::leave()
{
  const Instant until = sys::elapsed_now() + k_farewell;
  std::optional<std::string> left_behind;
  const std::vector<EtcdLease> leases = m_leases.all();
  for (const EtcdLease& one : leases) {
    if (one.asked > m_client.last_asked()) { continue; } // nothing has been sent since, so that no server knows it
    const auto revoked = m_leases.revoke(one.id, {until, k_farewell_try, true});
    if (revoked || left_behind) { continue; }
    left_behind =
      fmt::format("the key '{}' stays until its lease runs out: {}", m_key, failure_from(revoked.error()).text);
  }
  m_client.await_late(std::min<Instant>(until, sys::elapsed_now() + k_farewell_try));
  return left_behind;
}

} // namespace lockrun::engines::etcd
