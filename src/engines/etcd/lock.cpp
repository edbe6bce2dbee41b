#include "engines/etcd/lock.hpp"

#include "engines/etcd/failure.hpp"
#include "engines/etcd/requests.hpp"
#include "sys/clock.hpp"

#include <algorithm>
#include <sysexits.h>
#include <utility>

#include <fmt/format.h>

namespace lockrun::engines::etcd {
namespace {

using Kind = Trouble::Kind;
using Failed = tl::unexpected<Failure>;

constexpr milliseconds k_try{500};          // until another endpoint is asked while we join
constexpr milliseconds k_settle_after{100}; // shorter commands do without
constexpr std::int64_t k_near = 8;          // positions at which each renewal looks whether something has changed,
constexpr std::int64_t k_looks_apart = 4;   // while at others it is one of so many

constexpr const char* k_key_is_gone = "its key was deleted, or its lease was revoked or has expired";
constexpr const char* k_parameters[] = {"tls", "cacert", "cert", "key", "password-file"};

Standing held()
{
  return {true, 0, {}, {}};
}

} // namespace

std::span<const char* const> EtcdLock::parameters() const
{
  return k_parameters;
}

Result<void, Failure> EtcdLock::open(const Url& url)
{
  auto opened = m_client.open(url);
  if (!opened) { return opened; }
  m_key.open(url.name + '/');
  return {};
}

Result<std::vector<Contender>, Failure> EtcdLock::status()
{
  const Limits limits = m_key.limits();
  const auto view = m_key.look(Scope::everybody, limits);
  if (!view) { return Failed(view.error()); }
  const auto agreed = m_client.agree(limits.until);
  if (!agreed) { return failed(agreed.error()); }
  std::vector<Contender> contenders;
  for (std::size_t i = 0; i < view->queue.size(); ++i) { contenders.push_back(contender_of(view->queue, i)); }
  return contenders;
}

// Our old key, if there is one, goes with the transaction that makes the new one, and counts no more in what we see:
// callers queued after it wait for us no longer than that takes.
Result<Standing, Failure> EtcdLock::join(const Demand& demand, Instant until)
{
  if (const auto agreed = m_client.agree(); !agreed) { return failed(agreed.error()); }
  m_is_held = false;
  m_key.renounce({demand.mode, demand.slots, {}, demand.max_waiters.has_value(), demand.owner});
  // Whatever the time is, each endpoint gets its turn.
  const auto share = std::chrono::duration_cast<milliseconds>(until - sys::elapsed_now()) / m_client.endpoints();
  const Limits limits{until, std::clamp<milliseconds>(share, milliseconds(1), k_try), true};
  auto standing = take_place({demand, limits});
  if (!standing) { return standing; }
  const auto agreed = m_client.agree(until);
  if (!agreed) { return failed(agreed.error()); }
  const auto learned = m_epoch.learn(limits);
  if (!learned) { return Failed(learned.error()); }
  m_standing = *std::move(standing);
  const LeaseTime& time = m_key.lease().time;
  m_renewal = renewal_of(time);
  // What the server granted a moment ago needs no second look.
  if (m_is_held && sys::elapsed_now() >= fresh_until(time)) { m_renewal = sys::elapsed_now(); }
  plan_settling();
  return tell();
}

Result<Standing, Failure> EtcdLock::proceed()
{
  if (const auto agreed = m_client.agree(); !agreed) {
    const Failure failure = failure_from(agreed.error());
    if (!m_is_held) { return Failed(loss(failure.text)); } // to join again says the same
    if (!std::exchange(m_has_told_of_clusters, true)) { m_attention.complain(failure.text); }
  }
  const Instant now = sys::elapsed_now();
  if (is_stirred()) {
    m_renewal = now;
    m_is_stirred = true; // until we have looked
  }
  if (now >= m_renewal) {
    const auto kept = keep_place();
    if (!kept) { return Failed(kept.error()); }
    if (!*kept) {
      auto standing = renew();
      if (!standing) { return Failed(standing.error()); }
      // The server has said so, so that it was ours for certain only when it was renewed last.
      if (!*standing) { return Failed(loss(k_key_is_gone, asked_at(m_key.lease().time))); }
      m_standing = **std::move(standing);
      plan_settling();
    }
    m_renewal = renewal_of(m_key.lease().time);
  } else if (m_settle_at && now >= *m_settle_at) {
    m_settle_at.reset();
    settle();
  }
  return tell();
}

// Where we stand, and what is due next.
Standing EtcdLock::tell()
{
  const Instant never = Instant::max();
  const Instant next = std::min({m_renewal, m_settle_at.value_or(never), m_watch.due().value_or(never)});
  m_standing.pace = {m_key.lease().time.deadline, next};
  return m_standing;
}

Ownership EtcdLock::ownership() const
{
  return {std::to_string(m_key.created()), m_key.name(), m_key.note().slot, m_key.lease().time.ttl, m_epoch.text()};
}

// Others may join all the time. Where that would leave us nothing we may join only if nobody has; of several that may
// hold it together one that comes too late finds out afterwards.
bool EtcdLock::Joining::must_be_next() const
{
  return demand.max_waiters || (never_waits() && demand.mode == Mode::exclusive && demand.slots == 0);
}

Result<Standing, Failure> EtcdLock::take_place(Joining joining)
{
  Backoff pauses(milliseconds(1), milliseconds(500)); // for others that are faster, or a server that makes no key
  for (;;) {
    const auto standing = try_to_join(joining);
    if (!standing) { return Failed(standing.error()); }
    if (*standing) { return **standing; }
    if (m_attention.pause(sys::elapsed_now() + pauses.next()) == Attention::Woken::by_lockrun) {
      return Failed(interruption());
    }
  }
}

// None: it is to be tried again.
EtcdLock::MaybeStanding EtcdLock::try_to_join(Joining& joining)
{
  joining.unchanged_since.reset();
  m_key.set_slot(std::nullopt);
  if (joining.must_look()) {
    auto before = look_before(joining);
    if (!before || *before) { return before; }
  }
  if (m_key.lease().id == 0) { m_watch.close(); } // that of another key
  auto made = m_key.make(joining.demand.ttl, joining.unchanged_since, joining.limits);
  if (!made) { return Failed(made.error()); }
  joining.view.reset();
  if (!made->ours) { // another caller came in between: this is the queue with it
    if (made->revision != 0) { joining.view = *std::move(made); }
    return std::nullopt;
  }
  if (joining.never_waits()) {
    const Rank rank = rank_of(made->queue, *made->ours, m_key.note());
    if (auto failure = refusal(joining, *made, *made->ours, rank)) { return Failed(*std::move(failure)); }
  }
  return standing_in(*made);
}

// Whether there is any use in joining. A standing if our key is there already.
EtcdLock::MaybeStanding EtcdLock::look_before(Joining& joining)
{
  if (!joining.view) {
    auto seen = m_key.look(Scope::everybody, joining.limits);
    if (!seen) { return Failed(seen.error()); }
    joining.view = *std::move(seen);
  }
  const QueueView& view = *joining.view;
  if (view.ours) { // we were interrupted just after it was made
    m_key.adopt(view);
    auto standing = standing_in(view);
    if (!standing || *standing) { return standing; }
  }
  const std::size_t last = view.queue.size();
  const Rank rank = rank_of(view.queue, last, m_key.note());
  if (auto failure = refusal(joining, view, last, rank)) { return Failed(*std::move(failure)); }
  if (joining.must_be_next()) {
    m_key.set_slot(rank.slot_to_claim);
    joining.unchanged_since = view.revision;
  }
  return std::nullopt;
}

// Why one at `index` must not be there: it would wait, and is not to wait, or not after so many.
std::optional<Failure> EtcdLock::refusal(
  const Joining& joining, const QueueView& view, std::size_t index, const Rank& rank) const
{
  const Demand& demand = joining.demand;
  Failure failure{EX_TEMPFAIL, "busy", "it is held"};
  if (rank.is_held || rank.slot_to_claim || (joining.never_waits() && rank.is_promised)) { return std::nullopt; }
  if (!joining.never_waits()) {
    if (!demand.max_waiters || rank.counted_waiters < *demand.max_waiters) { return std::nullopt; }
    failure = {EX_TEMPFAIL, "too_many_waiters", fmt::format("{} wait already", rank.counted_waiters)};
  }
  failure.standing = standing_behind(view, index, rank);
  if (failure.standing->holder) { failure.holder = failure.standing->holder->text; }
  return failure;
}

// None: our key is gone.
EtcdLock::MaybeStanding EtcdLock::standing_in(const QueueView& view)
{
  if (!m_key.is_in(view)) { return std::nullopt; }
  const Rank rank = rank_of(view.queue, *view.ours, m_key.note());
  if (rank.slot_to_claim) { return claim_slot(*rank.slot_to_claim); }
  if (!rank.is_held) { return wait_behind(view, rank); }
  m_is_held = true;
  return held();
}

// It is ours as soon as our note says so.
EtcdLock::MaybeStanding EtcdLock::claim_slot(int slot)
{
  m_key.set_slot(slot);
  const auto written = m_key.write(m_key.limits());
  if (written && *written == QueueKey::State::ours) {
    m_is_held = true;
    return held();
  }
  m_key.set_slot(std::nullopt);
  if (!written && written.error().kind != Kind::gone) { return failed(written.error()); }
  if (!written || *written == QueueKey::State::lost) { return std::nullopt; }
  return failed({Kind::unavailable, "our key has changed meanwhile"});
}

EtcdLock::MaybeStanding EtcdLock::wait_behind(const QueueView& view, const Rank& rank)
{
  m_has_waited = true;
  m_is_stirred = false;
  m_seen = {view.revision, view.queue.front().key, view.queue[rank.obstacle.value_or(0)].key, 0};
  const auto watched = watch(rank.obstacle ? view.queue[*rank.obstacle].key : m_key.prefix(), view.revision + 1);
  if (!watched) { return Failed(watched.error()); }
  if (rank.position > 1) { m_client.rest(); } // the next one in line will need it soon, the others may be many
  return standing_behind(view, *view.ours, rank);
}

// Of one at `index` who does not have it.
Standing EtcdLock::standing_behind(const QueueView& view, std::size_t index, const Rank& rank) const
{
  Standing standing{false, rank.position, {}, {}};
  for (std::size_t i = 0; i < index; ++i) {
    const auto& owner = view.queue[i].note.owner;
    const bool is_near = i != rank.holder && owner && owner->host == m_key.note().owner->host;
    if (is_near && holds(view.queue, i)) { standing.nearby.push_back(contender_of(view.queue, i)); }
  }
  if (rank.holder) { standing.holder = contender_of(view.queue, *rank.holder); }
  return standing;
}

// The key or prefix whose events may change where we stand, and our own key.
Result<void, Failure> EtcdLock::watch(const std::string& key, std::int64_t since)
{
  const bool is_ours = key == m_key.name();
  std::vector<Json> requests;
  if (key == m_key.prefix()) {
    requests.push_back(watch_below(key, since));
  } else {
    // What is written matters only if it is the slot of the one before us: then it is our turn to choose.
    requests.push_back(watch_key(key, since, m_key.note().slots > 0 && !is_ours));
    if (!is_ours) { requests.push_back(watch_key(m_key.name(), since, false)); }
  }
  const auto opened = m_watch.open(key, requests, m_key.lease().time.ttl, m_key.limits());
  if (!opened) { return failed(opened.error()); }
  return {};
}

// None: our key or its lease is gone.
EtcdLock::MaybeStanding EtcdLock::renew()
{
  const auto view = m_key.renew(m_is_held ? Scope::us : Scope::up_to_us);
  if (!view) { return Failed(view.error()); }
  if (!*view) { return std::nullopt; }
  if (m_is_held) {
    // Whatever ended the watch on our key. Without one the next renewal finds out.
    if (m_is_settled) { (void)watch(m_key.name(), (*view)->revision + 1); }
    return held();
  }
  m_key.set_slot((*view)->queue[*(*view)->ours].note.slot);
  return standing_in(**view);
}

// Many may wait, and where nothing happens none of them looks at the others: a place in the queue lives as long as its
// lease does, and the watch tells what happens to us and before us. Whether the lock is ours in the end is decided by
// renew() alone. False: there is a reason to look.
Result<bool, Failure> EtcdLock::keep_place()
{
  if (m_is_held || m_is_stirred || !m_watch.is_open() || m_key.has_unanswered()) { return false; }
  const auto renewed = m_key.keep_alive();
  if (!renewed && renewed.error().kind == Kind::gone) { return false; }
  if (!renewed) { return failed(renewed.error()); }
  if (!m_key.is_kept(*renewed) || !m_watch.is_current()) { return false; }
  const auto is_same = is_queue_the_same(revision_of(renewed->body));
  if (!is_same) { return Failed(is_same.error()); }
  if (!*is_same) { return false; }
  m_key.extend(*renewed);
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
  const auto looked =
    m_client.call(k_txn, presence_request({m_key.name(), m_seen.obstacle, m_seen.first}), m_key.limits());
  if (!looked) { return failed(looked.error()); }
  if (!is_present(looked->body, 0) || !is_present(looked->body, 1)) { return false; }
  if (is_present(looked->body, 2)) {
    m_seen.revision = revision;
    return true;
  }
  // Only our position has changed. The more there are to be read, the less often.
  return m_seen.renewals * k_near < m_standing.position;
}

// What can wait until lockrun knows how we stand.
void EtcdLock::plan_settling()
{
  if (m_is_held && !m_is_settled) {
    m_settle_at = sys::elapsed_now() + k_settle_after;
  } else if (m_key.has_other_leases()) {
    m_settle_at = sys::elapsed_now();
  }
}

// Nothing depends on it, and the next renewal, which it does not delay, finds out what is wrong.
void EtcdLock::settle()
{
  if (m_is_held && !std::exchange(m_is_settled, true)) {
    if (m_has_waited && m_key.note().owner) {
      m_key.set_since(std::chrono::duration_cast<milliseconds>(sys::wall_now()).count());
      Limits limits = m_key.limits();
      limits.until = std::min(limits.until, m_renewal);
      (void)m_key.write(limits);
    }
    (void)watch(m_key.name(), m_key.created() + 1); // in case somebody deletes it, or revokes the lease
  }
  m_key.revoke_others(m_renewal);
}

} // namespace lockrun::engines::etcd
