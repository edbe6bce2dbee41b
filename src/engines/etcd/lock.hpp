#pragma once

#include "engines/etcd/client.hpp"
#include "engines/etcd/epoch.hpp"
#include "engines/etcd/key_watch.hpp"
#include "engines/etcd/queue.hpp"
#include "engines/etcd/queue_key.hpp"

#include <optional>
#include <span>
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
  std::span<const char* const> parameters() const override;

  Result<void, Failure> open(const Url& url) override;
  Result<std::vector<Contender>, Failure> status() override;
  Result<Standing, Failure> join(const Demand& demand, Instant until) override;
  std::vector<::pollfd> interests() const override { return m_watch.interests(); }
  Result<Standing, Failure> proceed() override;
  Ownership ownership() const override;
  std::optional<std::string> leave() override { return m_key.leave(); }

private:
  // What join() is after.
  struct Joining {
    const Demand& demand;
    const Limits& limits;
    std::optional<QueueView> view{};               // as it was seen last; none: we have to look
    std::optional<std::int64_t> unchanged_since{}; // our key is made only if nobody has joined after that revision
    bool never_waits() const { return demand.wait == Wait::never; }
    bool must_look() const { return never_waits() || demand.max_waiters; }
    bool must_be_next() const;
  };
  using MaybeStanding = Result<std::optional<Standing>, Failure>;
  Result<Standing, Failure> take_place(Joining joining);
  MaybeStanding try_to_join(Joining& joining);
  MaybeStanding look_before(Joining& joining);
  std::optional<Failure> refusal(
    const Joining& joining, const QueueView& view, std::size_t index, const Rank& rank) const;

  MaybeStanding standing_in(const QueueView& view);
  MaybeStanding claim_slot(int slot);
  MaybeStanding wait_behind(const QueueView& view, const Rank& rank);
  Standing standing_behind(const QueueView& view, std::size_t index, const Rank& rank) const;
  Standing tell();

  MaybeStanding renew();
  Result<bool, Failure> keep_place();
  Result<bool, Failure> is_queue_the_same(std::int64_t revision);
  Result<void, Failure> watch(const std::string& key, std::int64_t since);
  bool is_stirred() { return m_watch.has_news(m_key.lease().time.ttl); }
  void plan_settling();
  void settle();

  const Attention& m_attention;
  Client m_client;
  Epoch m_epoch{m_client};
  QueueKey m_key{m_client, m_epoch};
  KeyWatch m_watch{m_client};
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
};

} // namespace lockrun::engines::etcd
