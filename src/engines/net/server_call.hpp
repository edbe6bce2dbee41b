#pragma once

#include "engines/net/servers.hpp"

#include <deque>
#include <optional>
#include <vector>

namespace lockrun::engines::net {

// One call: tries that run at the same time.
class Servers::Call {
public:
  Call(Servers& servers, const std::vector<HttpRequest>& requests, const Limits& limits, const Verdict& verdict)
    : m_servers(servers), m_requests(requests), m_limits(limits), m_verdict(verdict), m_said(servers.size())
  {}

  // The try that succeeded; its connection has the answers.
  Reply<HttpConnection> run();
  void keep_late(); // tries that have been asked and have not answered
  std::vector<HttpAnswer> take_answers() { return std::move(m_answers); }
  Instant first_asked() const noexcept { return m_first_asked; }

private:
  struct Candidate {
    std::size_t server;
    sys::SocketAddress address;
  };
  struct Try {
    Candidate target;
    HttpConnection connection;
    bool is_reused = false;
    bool is_ready = false; // to go on
    bool is_over = false;
  };

  std::optional<HttpConnection> advance_ready();
  bool has_nothing_left() const;
  bool has_only_names() const;
  void complain_of_another_round();
  Trouble out_of_time() const;
  void begin_round();
  void add_addresses(std::size_t server);
  void begin_try();
  void begin_try(const Candidate& target);
  void reuse_connection();
  void look_at_names();
  void hurry_names();
  std::optional<HttpConnection> advance(Try& one);
  void fail(std::size_t server, const Trouble& trouble);
  void judge_try(Try& one, const Trouble& trouble);
  milliseconds pause() const;
  bool has_room();
  bool awaits_names() const;
  bool has_hope() const;
  Reply<void> rest();
  Trouble all_troubles() const;
  Attention::Woken wait(Instant until);

  Servers& m_servers;
  const std::vector<HttpRequest>& m_requests;
  const Limits& m_limits;
  const Verdict& m_verdict;
  std::vector<std::optional<Trouble>> m_said; // by each of the servers
  std::deque<Candidate> m_candidates;         // of this round, still to be tried
  std::vector<bool> m_awaited;                // servers whose addresses this round waits for
  std::vector<Try> m_tries;
  int m_rounds = 0;
  Instant m_next_try{0};
  bool m_is_resting = false; // all have failed, and the next round is due at m_next_try
  bool m_has_complained = false;
  std::vector<HttpAnswer> m_answers;
  Instant m_first_asked{0};
};

} // namespace lockrun::engines::net
