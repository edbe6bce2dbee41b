#pragma once

#include "engines/etcd/client.hpp"
#include "engines/etcd/epoch.hpp"
#include "engines/etcd/leases.hpp"
#include "engines/etcd/queue.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lockrun::engines::etcd {

// What a look at the queue has shown.
struct QueueView {
  std::vector<Member> queue;
  std::int64_t revision = 0;       // 0: nothing was seen
  std::int64_t term = 0;           // in which the server answered
  std::optional<std::size_t> ours; // index of our key
};

// How much of the queue is looked at.
enum class Scope { everybody, up_to_us, us };

// Our key in the queue of a lock, and the lease that it is on.
class QueueKey {
public:
  QueueKey(Client& client, Epoch& epoch) : m_client(client), m_epoch(epoch), m_leases(client) {}

  void open(std::string prefix) { m_prefix = std::move(prefix); }

  const std::string& prefix() const noexcept { return m_prefix; }
  const std::string& name() const noexcept { return m_key; }
  std::int64_t created() const noexcept { return m_created; }
  const EtcdLease& lease() const noexcept { return m_lease; } // its id is 0 when there is none

  // What its value says, or is to say when it is written next.
  const Note& note() const noexcept { return m_note; }
  void set_slot(std::optional<int> slot) { m_note.slot = slot; }
  void set_since(std::int64_t since_ms);

  // With a lease there is time for as long as that is good: no server that may still answer is given up before.
  Limits limits() const;

  Result<QueueView, Failure> look(Scope scope, const Limits& limits);

  // Whether the view has the key that we know, and not another one of that name.
  bool is_in(const QueueView& view) const;

  // A new place in the queue is wanted, with this note. The former key, if there is one, goes when the new one is made.
  void renounce(Note note);

  // Makes it, with `unchanged_since` only if nobody has joined after that revision. The view is the queue afterwards;
  // our key is not in it if it could not be made.
  Result<QueueView, Failure> make(milliseconds ttl, std::optional<std::int64_t> unchanged_since, const Limits& limits);

  // What an earlier try, whose answer got lost, has made is as good as what we would make now.
  void adopt(const QueueView& view);

  // Writes the note.
  enum class State { ours, lost, changed };
  Reply<State> write(const Limits& limits) { return write(m_lease, limits); }

  // Renews the lease, or moves the key to another one where that is needed. None: the key or the lease is gone.
  Result<std::optional<QueueView>, Failure> renew(Scope scope);

  // The cheap half of that: whether the lease was renewed in the term in which it was granted. Then extend() makes it
  // count.
  Reply<Answer> keep_alive();
  bool is_kept(const Answer& renewed) const;
  void extend(const Answer& renewed);

  // Whether a write that has no answer yet may still move the key to another lease.
  bool has_unanswered() const noexcept { return m_unanswered.has_value(); }

  // Leases that the key is not on and cannot get to.
  bool has_other_leases() const noexcept { return m_leases.all().size() > 1 && !m_unanswered; }
  void revoke_others(Instant until);

  // Revokes all of them, and so deletes the key. The text says what was left behind, if anything.
  std::optional<std::string> leave();

private:
  QueueView view_of(const Json& range_response, const Json& answer) const;
  Json range_of(Scope scope) const;
  Json make_on(std::int64_t lease, std::optional<std::int64_t> unchanged_since) const;
  Reply<std::optional<Json>> make_with_lease(
    milliseconds ttl, std::optional<std::int64_t> unchanged_since, const Limits& limits);
  void see(const Member& self);
  Reply<State> write(EtcdLease& onto, const Limits& limits);
  State state_in(const QueueView& view, std::int64_t lease);
  Reply<State> change_lease(std::int64_t term);
  Result<State, Failure> keep_lease(const Answer& renewed, const Member& self, std::int64_t term);
  Result<QueueView, Failure> renew_once(Scope scope, std::optional<Answer>& renewed);
  LeaseTime at_most(LeaseTime time) const;

  Client& m_client;
  Epoch& m_epoch;
  Leases m_leases;
  EtcdLease m_lease{}; // the one that the key is on
  std::string m_prefix;
  std::string m_key;
  std::vector<std::string> m_former;   // keys of places that were lost
  std::int64_t m_created = 0;          // revision of the key; 0: there is none that we know of
  std::int64_t m_modified = 0;         // its last one; what we write assumes it
  std::optional<Instant> m_unanswered; // the deadline of another lease, to which a write of ours may still move it
  Note m_note;
};

} // namespace lockrun::engines::etcd
