#pragma once

#include "engines/backoff.hpp"
#include "engines/etcd/client.hpp"
#include "engines/etcd/history.hpp"
#include "engines/etcd/queue.hpp"
#include "engines/lease.hpp"

#include <optional>
#include <string>
#include <vector>

namespace lockrun::engines::etcd {

// A lock as `etcdctl lock` takes it: a key NAME/<lease>, held by the oldest of them.
class EtcdLock final : public Backend {
public:
  explicit EtcdLock(const Attention& attention) : m_attention(attention), m_client(attention) {}

  const char* name() const override { return "etcd"; }
  const char* abilities() const override { return "shared,slots,max_waiters,fair,status"; }
  const char* default_port() const override { return "2379"; }

  Result<void, Failure> open(const Url& url) override;
  Result<std::vector<Contender>, Failure> status() override;
  Result<Standing, Failure> join(const Demand& demand, Instant until) override;
  std::vector<::pollfd> interests() const override;
  Result<Standing, Failure> proceed() override;
  Ownership ownership() const override;
  std::optional<std::string> leave() override;

private:
  struct View {
    std::vector<Member> queue;
    std::int64_t revision = 0;
    std::int64_t term = 0;           // in which the server answered
    std::optional<std::size_t> ours; // index of our key
  };
  enum class Scope { everybody, up_to_us, us };
  View view_of(const Json& range_response, const Json& answer) const;
  Json queue_request(Scope scope) const;
  Result<View, Failure> queue(Scope scope, const Limits& limits);
  // A lease that we have asked for.
  struct EtcdLease {
    std::int64_t id = 0;
    Instant asked{0};      // before that was first sent: whichever try was granted, it lives since then at the earliest
    std::int64_t term = 0; // in which it was granted; 0: unknown
    LeaseTime time{};
  };
  EtcdLease new_lease();
  const EtcdLease* find(std::int64_t id) const;
  void remember(const EtcdLease& granted);
  static Json grant_request(std::int64_t id, milliseconds ttl);
  Reply<void> ask_for(EtcdLease& fresh, milliseconds ttl, const Limits& limits);
  Result<View, Failure> keep_alive(std::optional<Answer>& renewed);
  LeaseTime at_most(LeaseTime time) const;
  Reply<void> revoke(std::int64_t id, const Limits& limits);
  Json put_request(const Note& note, std::int64_t lease) const;
  Json slotted_request() const;
  Json key_request(std::optional<std::int64_t> unchanged_since) const;
  Result<View, Failure> make_key(milliseconds ttl, std::optional<std::int64_t> unchanged_since, const Limits& limits);
  Reply<std::optional<Json>> make_lease_and_key(
    milliseconds ttl, std::optional<std::int64_t> unchanged_since, const Limits& limits);
  void take_history(const Reply<Answer>& status, const Reply<Answer>& marker);
  Result<void, Failure> learn_epoch(const Limits& limits);
  Result<Standing, Failure> take_place(const Demand& demand, milliseconds ttl, const Limits& limits);
  void adopt(const View& view);
  Result<std::optional<Standing>, Failure> standing_in(const View& view);
  Standing standing_behind(const View& view, std::size_t index, const Rank& rank) const;
  enum class Found { ours, lost, changed };
  void see(const Member& self);
  Reply<Found> rewrite(EtcdLease& onto, const Limits& limits);
  Reply<Found> change_lease(std::int64_t term);
  Result<Found, Failure> keep_lease(const Answer& renewed, const Member& self, std::int64_t term);
  void see(const View& view, const Rank& rank);
  Result<bool, Failure> keep_place();
  Result<bool, Failure> is_queue_the_same(std::int64_t revision);
  Result<std::optional<Standing>, Failure> renew();
  Failure loss() const;
  Standing tell();
  void plan_settling();
  void settle();
  void revoke_others();
  Json watch_request(const std::string& key, std::int64_t since) const;
  Result<void, Failure> watch(const std::string& key, std::int64_t since);
  void pause_watching();
  bool is_stirred();
  Limits brief() const;

  const Attention& m_attention;
  Client m_client;
  std::string m_prefix;
  std::vector<EtcdLease> m_leases; // all that we have asked for and that may be there
  EtcdLease m_lease{};             // the one that our key is on; its id is 0 when there is none
  std::string m_key;
  std::vector<std::string> m_former_keys; // of places that were lost
  std::int64_t m_created = 0;             // revision of our key; 0: there is none that we know of
  std::int64_t m_modified = 0;            // its last one; what we write assumes it
  std::optional<Instant> m_unanswered;    // the deadline of another lease, to which a write of ours may still move it
  LogPosition m_log_position;             // of the server, just before it made our key
  std::optional<Marker> m_marker;         // of the cluster, then
  std::optional<std::string> m_epoch;     // none: not known yet
  Note m_note;
  bool m_is_held = false;
  bool m_has_waited = false;
  bool m_is_settled = false;
  bool m_has_told_of_clusters = false;

  Standing m_standing;                // as it was told last
  Instant m_renewal{0};               // when the next one is due
  std::optional<Instant> m_settle_at; // when what can wait is due

  // Of a queue that we wait in.
  struct Seen {
    std::int64_t revision = 0;
    std::string first{};       // the key of
    std::string obstacle{};    // the key whose end we wait for
    std::int64_t renewals = 0; // since then
  };
  Seen m_seen;
  bool m_is_stirred = false; // something has happened since we looked

  std::optional<Watch> m_watch;
  std::string m_watched;        // its key, or the prefix for all of them
  std::size_t m_watched_at = 0; // the endpoint
  Backoff m_watch_pauses{milliseconds(200), milliseconds(60'000)};
  std::optional<Instant> m_watch_at; // when another one is due; until then there is none
};

} // namespace lockrun::engines::etcd
